// What is signed is JSON, which is UTF-8. A database with another encoding would sign something else.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { SECRET } from './fixture.mjs';

let cluster;
before(async () => {
  cluster = await Cluster.start({ settings: { shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET } });
});
after(() => cluster.stop());

for (const encoding of ['LATIN1', 'SQL_ASCII', 'EUC_JP']) {
  test(`the extension is not created in a database in ${encoding}`, async () => {
    const name = `in_${encoding.toLowerCase()}`;
    cluster.psql('postgres', `create database ${name} template template0 encoding '${encoding}' locale 'C'`);
    const db = await cluster.connect(name);
    try {
      await assert.rejects(db.query('create extension supabase_pat'), {
        code: '0A000', message: `supabase_pat needs a database with the encoding UTF8, and this one has ${encoding}`,
      });
    } finally {
      await db.end();
    }
  });
}

test('an installation that is in one already signs nothing', async () => {
  cluster.psql('postgres', `create database old template template0 encoding 'LATIN1' locale 'C'`);
  cluster.psql('old', `
    create schema pat;
    create function pat.sign_jwt(claims jsonb, expires_in interval default null) returns text language c as 'supabase_pat', 'sign_jwt_wrapper';`);
  const db = await cluster.connect('old');
  try {
    await assert.rejects(db.query(`select pat.sign_jwt('{"name": "J\u00fcrgen"}')`), { code: '55000', message: 'the encoding of the database is not UTF8' });
  } finally {
    await db.end();
  }
});
