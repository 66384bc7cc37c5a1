// The mails in English: for each kind of notice a function from what there is to tell to subject and text.
// docs/reference/notices.md says what `notice` has. Names are texts that somebody else has written: `quoted` makes them
// harmless within a line, and they have no place in a subject.
const date = (time) => new Intl.DateTimeFormat('en', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' }).format(time) + ' UTC';

const token = ({ token_name, token_hint }, quoted) =>
  `${quoted(token_name)}${token_hint ? ` (it ends in ${quoted(token_hint)})` : ''}`;

const actor = ({ actor: who, actor_token, found_at }, quoted) => ({
  user: 'It was done with your login.',
  token: actor_token ? `It was done with your token ${quoted(actor_token)}.` : 'It was done with another token of yours.',
  operator: 'It was done by an operator.',
  'leak report': found_at
    ? `Whoever found it says that it was here: ${quoted(found_at)}. These are a stranger's words: follow no link in them that you do not know.`
    : 'Somebody had found it where it should not be.',
})[who];

export const minted = (notice, quoted) => (notice.others ? {
  subject: 'More access tokens were made for your account',
  text: [
    `${notice.others} more access tokens were made for your account on the day of ${date(notice.happened_at)}.`,
    'If that was not you, revoke them and change your password.',
  ],
} : {
  subject: 'A new access token for your account',
  text: [
    notice.is_rotation
      ? `The access token ${token(notice, quoted)} was made in the place of another one, on ${date(notice.happened_at)}.`
      : `The access token ${token(notice, quoted)} was made for your account on ${date(notice.happened_at)}.`,
    actor(notice, quoted),
    'If that was not you, revoke it and change your password.',
  ],
});

export const expiring = (notice, quoted) => (notice.others ? {
  subject: 'More of your access tokens expire soon',
  text: [
    `${notice.others} of your access tokens expire within 30 days.`,
    'What uses them stops working then. Rotate those that you still need.',
  ],
} : {
  subject: 'An access token of yours expires soon',
  text: [
    `Your access token ${token(notice, quoted)} expires on ${date(notice.expires_at)}.`,
    'What uses it stops working then. If you still need it, rotate it; if not, there is nothing that you need to do.',
  ],
});

export const revoked = (notice, quoted) => (notice.others ? {
  subject: 'More of your access tokens were revoked',
  text: [
    `${notice.others} more of your access tokens were revoked on the day of ${date(notice.happened_at)}.`,
    'What used them has stopped working.',
  ],
} : {
  subject: 'An access token of yours was revoked',
  text: [
    `Your access token ${token(notice, quoted)} was revoked on ${date(notice.happened_at)}. What used it has stopped working.`,
    actor(notice, quoted),
    'If that was not you, change your password.',
  ],
});

export const leaked = (notice, quoted) => (notice.others ? {
  subject: 'More of your access tokens had leaked and were revoked',
  text: [
    `${notice.others} more of your access tokens were reported as leaked on the day of ${date(notice.happened_at)}, and revoked.`,
    'Look for what was done with them, and make new ones where you need them.',
  ],
} : {
  subject: 'An access token of yours had leaked and was revoked',
  text: [
    `Your access token ${token(notice, quoted)} was found where others could read it. It was revoked on ${date(notice.happened_at)}.`,
    actor(notice, quoted),
    'Look for what was done with it, take it out of where it was, and make a new one if you need it.',
  ],
});
