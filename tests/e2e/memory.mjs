// How much memory a backend takes: what is its own, not what it shares with others.
import { readFileSync } from 'node:fs';

/** KiB. */
export function memoryOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)[1]);
}

/** Runs a statement, or a function that makes several, and tells by how many KiB the backend was larger during it than
 * before, at most, and after it. */
export async function growthDuring(client, pid, work) {
  const before = memoryOf(pid);
  let peak = before;
  const watch = setInterval(() => { peak = Math.max(peak, memoryOf(pid)); }, 20);
  try {
    await (typeof work === 'string' ? client.query(work) : work());
  } finally {
    clearInterval(watch);
  }
  const after = memoryOf(pid);
  return { grown: after - before, peak: Math.max(peak, after) - before };
}
