// Los correos en español: véase en.mjs.
const date = (time) => new Intl.DateTimeFormat('es', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' }).format(time) + ' UTC';

const token = ({ token_name, token_hint }, quoted) =>
  `${quoted(token_name)}${token_hint ? ` (termina en ${quoted(token_hint)})` : ''}`;

const actor = ({ actor: who, actor_token, found_at }, quoted) => ({
  user: 'Se hizo con tu inicio de sesión.',
  token: actor_token ? `Se hizo con tu token ${quoted(actor_token)}.` : 'Se hizo con otro token tuyo.',
  operator: 'Lo hizo un operador.',
  'leak report': found_at
    ? `Quien lo encontró dice que estaba aquí: ${quoted(found_at)}. Son palabras de un desconocido: no sigas ningún enlace que no conozcas.`
    : 'Alguien lo había encontrado donde no debía estar.',
})[who];

export const minted = (notice, quoted) => (notice.others ? {
  subject: 'Se crearon más tokens de acceso para tu cuenta',
  text: [
    `Se crearon ${notice.others} tokens de acceso más para tu cuenta el día del ${date(notice.happened_at)}.`,
    'Si no fuiste tú, revócalos y cambia tu contraseña.',
  ],
} : {
  subject: 'Un nuevo token de acceso para tu cuenta',
  text: [
    notice.is_rotation
      ? `El token de acceso ${token(notice, quoted)} se creó en lugar de otro el ${date(notice.happened_at)}.`
      : `El token de acceso ${token(notice, quoted)} se creó para tu cuenta el ${date(notice.happened_at)}.`,
    actor(notice, quoted),
    'Si no fuiste tú, revócalo y cambia tu contraseña.',
  ],
});

export const expiring = (notice, quoted) => (notice.others ? {
  subject: 'Más tokens de acceso tuyos caducan pronto',
  text: [
    `${notice.others} de tus tokens de acceso caducan en menos de 30 días.`,
    'Lo que los usa dejará de funcionar. Renueva los que aún necesites.',
  ],
} : {
  subject: 'Un token de acceso tuyo caduca pronto',
  text: [
    `Tu token de acceso ${token(notice, quoted)} caduca el ${date(notice.expires_at)}.`,
    'Lo que lo usa dejará de funcionar entonces. Si aún lo necesitas, renuévalo; si no, no tienes que hacer nada.',
  ],
});

export const revoked = (notice, quoted) => (notice.others ? {
  subject: 'Se revocaron más tokens de acceso tuyos',
  text: [
    `Se revocaron ${notice.others} tokens de acceso tuyos más el día del ${date(notice.happened_at)}.`,
    'Lo que los usaba ha dejado de funcionar.',
  ],
} : {
  subject: 'Se revocó un token de acceso tuyo',
  text: [
    `Tu token de acceso ${token(notice, quoted)} se revocó el ${date(notice.happened_at)}. Lo que lo usaba ha dejado de funcionar.`,
    actor(notice, quoted),
    'Si no fuiste tú, cambia tu contraseña.',
  ],
});

export const leaked = (notice, quoted) => (notice.others ? {
  subject: 'Más tokens de acceso tuyos se habían filtrado y se revocaron',
  text: [
    `Se notificó la filtración de ${notice.others} tokens de acceso tuyos más el día del ${date(notice.happened_at)}, y se revocaron.`,
    'Comprueba qué se hizo con ellos y crea otros donde los necesites.',
  ],
} : {
  subject: 'Un token de acceso tuyo se había filtrado y se revocó',
  text: [
    `Tu token de acceso ${token(notice, quoted)} se encontró donde otros podían leerlo. Se revocó el ${date(notice.happened_at)}.`,
    actor(notice, quoted),
    'Comprueba qué se hizo con él, quítalo de donde estaba y crea otro si lo necesitas.',
  ],
});
