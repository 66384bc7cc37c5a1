// The demo's mailbox, in the browser: codes that would have been sent by e-mail.
const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  #mailbox { font: 0.875rem/1.5 system-ui, sans-serif; color: light-dark(#16202e, #e4eaf2); background: light-dark(#fff8e1, #2b2410);
    border-block-end: 1px solid light-dark(#e6d9a8, #57491d); padding: 0.5rem clamp(0.75rem, 4vw, 1.5rem);
    display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; align-items: baseline; }
  #mailbox h2 { font-size: 0.875rem; margin: 0; }
  #mailbox ol { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.25rem 1.5rem; }
  #mailbox li { overflow-wrap: anywhere; }
  #mailbox code { font: 600 1rem ui-monospace, 'DejaVu Sans Mono', monospace; letter-spacing: 0.04em; user-select: all; }
`);
document.adoptedStyleSheets.push(sheet);

const PURPOSES = { signup: 'To confirm the address', recovery: 'To reset the password' };
/** The mails that are shown: the latest. */
const SHOWN = 2;
const make = (tag, ...parts) => {
  const element = document.createElement(tag);
  element.append(...parts);
  return element;
};
const list = make('ol');
const box = make('aside', make('h2', 'Demo mailbox'), list);
box.id = 'mailbox';
box.setAttribute('aria-label', 'Demo mailbox');
document.body.prepend(box);

let shown = '';
for (;;) {
  const text = await fetch('demo/mails').then((answer) => (answer.ok ? answer.text() : shown), () => shown);
  if (text !== shown || text === '') {
    shown = text;
    const mails = JSON.parse(text || '[]');
    list.replaceChildren(...(mails.length === 0 ? [make('li', 'E-mails that the database sends show up here.')]
      : mails.slice(0, SHOWN).map(({ purpose, email, code }) => make('li', `${PURPOSES[purpose] ?? purpose} of ${email}: `, make('code', code)))));
  }
  await new Promise((resolve) => { setTimeout(resolve, 1500); });
}
