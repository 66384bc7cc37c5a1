// The mail worker of examples/ in a process of its own.
import { spawn } from 'node:child_process';

/** Starts the worker at that path: its process, what it prints, and a promise of how it ends. */
export function startMailWorker(script, cluster, smtpPort, env) {
  const worker = { output: '' };
  worker.child = spawn(process.execPath, [script], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: cluster.url('postgres', 'authenticator', cluster.password),
      SMTP_URL: `smtp://127.0.0.1:${smtpPort}`,
      MAIL_FROM: 'Todos <no-reply@example.com>',
      ...env,
    },
  });
  for (const stream of [worker.child.stdout, worker.child.stderr]) {
    stream.on('data', (chunk) => { worker.output += chunk; });
  }
  worker.ended = new Promise((resolve) => worker.child.once('close', (code, signal) => resolve(code ?? signal)));
  return worker;
}
