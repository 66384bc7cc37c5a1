// docs/tutorial.md, and the guides that go on where it is, from top to bottom: each block as it stands, in one shell and in
// psql.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SMTPServer } from 'smtp-server';
import { freePort } from '../cluster/cluster.mjs';
import { page } from './documentation.mjs';
import { blocksOf, dedented, open, walk } from './walkthrough.mjs';

/** What stands after the sections that the guides start from. */
const isLater = ({ title }) => /^[67]\. /.test(title);

/** What the test itself looks for. */
const check = (code, output) => ({ title: 'a check', language: 'sh', code: `${code}\n`, output });

const walking = async (blocks, options) => {
  const machine = await open(options);
  try {
    await walk(machine, blocks, { database: 'app' });
  } finally {
    machine.stop();
  }
};

test('the tutorial does what it says, from an empty machine on', async () => {
  const mails = [];
  const smtp = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    async onData(stream, { envelope }, done) {
      mails.push({ to: envelope.rcptTo.map(({ address }) => address), text: Buffer.concat(await stream.toArray()).toString() });
      done();
    },
  });
  const port = await freePort();
  await new Promise((resolve) => smtp.listen(port, '127.0.0.1', resolve));
  try {
    const sent = "sudo -u postgres psql app -XAtc \"select count(*) from pat.outbox where purpose = 'recovery' and sent_at is not null\"";
    await walking([
      ...blocksOf('tutorial.md'),
      check(`for TRY in {1..100}; do [ "$(${sent})" = 0 ] || break; sleep 0.2; done\ncat mail_worker.log >&2\n${sent}`, '1'),
    ], { smtpPort: port });
    // Those that were read in the database have been claimed, and would be sent later.
    assert.deepEqual(mails.filter(({ text }) => text.includes('is your code to reset your password')).map(({ to }) => to), [['alice@example.com']]);
  } finally {
    smtp.close();
  }
});

test('the guide to tenants does what it says, after the tutorial', () => walking([
  ...blocksOf('tutorial.md').filter((block) => !isLater(block)), ...blocksOf('guides/multi_tenant.md'),
  // Without a condition, Postgres does not ask the policies for reading.
  check(`ZORG=$(curl -s $API/rpc/create_organisation -H "Authorization: Bearer $ALICE" --json '{"name": "Zorg"}' | jq -r .id)
    curl -s $API/projects -H "Authorization: Bearer $ALICE" --json "{\\"organisation\\": \\"$ZORG\\", \\"name\\": \\"Zeppelin\\"}"
    TOKEN=$(curl -s $API/rpc/mint_pat -H "Authorization: Bearer $ALICE" --json "{
      \\"name\\": \\"x\\", \\"kind\\": \\"opaque\\", \\"attributes\\": {\\"organisation\\": \\"$ACME\\"}}" | jq -r .token)
    curl -s -X PATCH $API/projects -H "x-api-key: $TOKEN" --json '{"name": "renamed"}'
    curl -s "$API/projects?select=name&order=name" -H "Authorization: Bearer $ALICE" | jq -c 'map(.name)'`,
  '["Zeppelin","renamed","renamed"]'),
]));

/** What somebody of another organisation, an ordinary member, and tokens try in the application that the tutorial makes:
 * each with what comes of it. */
const ATTACKS = [
  ['another one sees nothing of Acme', `ask "$MALLORY" 'organisations?select=name'; ask "$MALLORY" 'members?select=role'
    ask "$MALLORY" projects; ask "$MALLORY" deployments`, '[{"name":"Zorg"}]\n[{"role":"owner"}]\n[]\n[]'],
  ['and writes nothing into it', `post "$MALLORY" projects '{"organisation": "'$ACME'", "name": "x"}'
    post "$MALLORY" deployments '{"project": "'$ANVIL'", "version": "x"}'
    post "$MALLORY" rpc/add_member '{"organisation": "'$ACME'", "email": "mallory@example.com"}'
    post "$MALLORY" members '{"organisation": "'$ACME'", "user_id": "'$ACME'"}'`,
  `new row violates row-level security policy for table "projects"
new row violates row-level security policy for table "deployments"
log in as an owner of the organisation to add a member
permission denied for table members`],
  ['nor with a token that names it', `TRICK="x-api-key: $(mint "$MALLORY" '{"organisation": "'$ACME'"}')"
    ask "$TRICK" 'projects?select=name'; post "$TRICK" deployments '{"project": "'$ANVIL'", "version": "x"}'`,
  '[]\nnew row violates row-level security policy for table "deployments"'],
  ['a member is no owner', `post "$MEMBER" projects '{"organisation": "'$ACME'", "name": "x"}'
    post "$MEMBER" rpc/add_member '{"organisation": "'$ACME'", "email": "mallory@example.com"}'
    gone "$MEMBER" 'members?role=eq.owner'`,
  `new row violates row-level security policy for table "projects"
log in as an owner of the organisation to add a member
[]`],
  ["nobody's name is put under a deployment", `post "$MEMBER" deployments '{"project": "'$ANVIL'", "version": "x", "user_id": "'$ACME'"}'
    post "$MEMBER" deployments '{"project": "'$ANVIL'", "version": "x", "token": null}'`,
  'permission denied for table deployments\npermission denied for table deployments'],
  ["an owner's token changes no members and founds nothing", `OWNER="x-api-key: $(mint "$FOUNDER" '{"organisation": "'$ACME'"}')"
    post "$OWNER" rpc/add_member '{"organisation": "'$ACME'", "email": "mallory@example.com"}'
    post "$OWNER" rpc/create_organisation '{"name": "x"}'
    post "$OWNER" projects '{"organisation": "'$ACME'", "name": "x"}'
    gone "$OWNER" 'members?role=eq.member'; ask "$OWNER" 'projects?select=name&order=name'`,
  `log in as an owner of the organisation to add a member
log in to create an organisation
new row violates row-level security policy for table "projects"
[]
[{"name":"Anvil"},{"name":"Rocket"}]`],
  ['whoever sends nothing is nobody', `ask 'x-nobody: x' 'projects?select=name'; post 'x-nobody: x' rpc/create_organisation '{"name": "x"}'`,
    'permission denied for table projects\npermission denied for function create_organisation'],
];

test('the application of the tutorial keeps organisations, members and tokens apart', () => walking([
  ...blocksOf('tutorial.md').filter((block) => !isLater(block)),
  { title: 'Mallory', language: 'sh', output: '{"name":"Zorg"}', code: `
    sign_up() { curl -s $API/rpc/sign_up --json '{"email": "'$1'", "password": "a third horse"}' | jq -r .confirmation_token; }
    CONFIRMATION=$(sign_up mallory@example.com)
    CONFIRMED=$(curl -s $API/rpc/confirm_sign_up --json '{"token": "'$CONFIRMATION'", "code": "'$(code_in_the_mail)'"}')
    MALLORY="Authorization: Bearer $(jq -r .access_token <<< "$CONFIRMED")"
    MEMBER="Authorization: Bearer $BOB" FOUNDER="Authorization: Bearer $ALICE"
    said() { jq -c 'if type == "object" and has("message") then .message else . end' | jq -rc .; }
    ask() { curl -s "$API/$2" -H "$1" | said; }
    post() { curl -s "$API/$2" -H "$1" --json "$3" | said; }
    gone() { curl -s -X DELETE "$API/$2" -H "$1" -H 'Prefer: return=representation' | said; }
    mint() { curl -s $API/rpc/mint_pat -H "$1" --json '{"name": "x", "kind": "opaque", "attributes": '"$2"'}' | jq -r .token; }
    post "$MALLORY" rpc/create_organisation '{"name": "Zorg"}' | jq -c '{name}'
` },
  ...ATTACKS.map(([title, code, output]) => ({ title, language: 'sh', code: `${code}\n`, output })),
]));

/** The scripts of a workflow: what stands indented under a key `run`, or in a list. */
const scriptsOf = (yaml) => [...yaml.matchAll(/^( *)(?:- |run: )\|\n((?:\1 +.*\n)+)/gm)]
  .map(([, , lines]) => dedented(lines));

/** Runs a script as a runner does: in a shell of its own, which ends at the first error. */
const job = (script, variables, output = '') => ({
  title: 'a job', language: 'sh', output, code: `env ${variables} API=$API bash -e <<'END_OF_JOB'\n${script}END_OF_JOB\n`,
});

/** What gitleaks 8.30.0 writes of a token that it has found twice in scripts, less what nobody reads. */
const LEAKS = `[${['supabase-pat', 'supabase-pat', 'curl-auth-header'].map((rule) => `{"RuleID": "${rule}", "Secret": "'$TOKEN'"}`)}]`;

test('the guide to CI does what it says, its jobs too', () => {
  const blocks = blocksOf('guides/ci.md', 'yaml').flatMap((block) => {
    if (block.language !== 'yaml') return [block];
    const scripts = scriptsOf(block.code);
    switch (block.code.split('\n')[0]) {
      case '# .github/workflows/deploy.yml': return [job(scripts[0], 'PROJECT=$ANVIL VERSION=one TOKEN=$(cat ~/secrets/API_TOKEN)')];
      case '# .gitlab-ci.yml': return [
        job(scripts[0], 'PROJECT=$ANVIL CI_COMMIT_SHA=two API_TOKEN=$(cat ~/secrets/API_TOKEN)'),
        check('curl -s "$API/deployments?select=version&order=id" -H "Authorization: Bearer $BOB" | jq -c "map(.version)"',
          '["1.4.0","one","two"]'),
        check(`! env PROJECT=$ROCKET CI_COMMIT_SHA=x API_TOKEN=$(cat ~/secrets/API_TOKEN) API=$API bash -e <<'END_OF_JOB' > /dev/null 2>&1
${scripts[0]}END_OF_JOB`, ''),
      ];
      case '# .github/workflows/leaks.yml': return [
        check('TOKEN=$(cat ~/secrets/API_TOKEN); curl -s $API/deployments -H "x-api-key: $TOKEN" | jq -r .message',
          'the personal access token lacks the scope deployments:read'),
        check(`echo '${LEAKS}' > leaks.json`, ''),
        job(scripts[1], 'FOUND_AT=https://example.com/a/repository'),
        check('curl -s $API/deployments -H "x-api-key: $TOKEN" | jq -r .message', 'the personal access token has been revoked'),
        check('curl -s "$API/api_key_events?select=detail&event=eq.token_leaked" -H "Authorization: Bearer $BOB" | jq -r ".[0].detail"',
          'https://example.com/a/repository'),
      ];
      default: throw new Error(`nobody runs this:\n${block.code}`);
    }
  });
  return walking([...blocksOf('tutorial.md').filter((block) => !isLater(block)), ...blocks], {
    programs: { gh: () => `[ "$1 $2" = 'secret set' ] && mkdir -p ~/secrets && cat > ~/secrets/$3` },
  });
});

test('the versions that the guide to CI names are those of its jobs', () => {
  const text = page('guides/ci.md');
  const [, gitleaks] = text.match(/gitleaks\/v8@v([\d.]+)/);
  assert.ok(text.includes(`gitleaks ${gitleaks} `), gitleaks);
});
