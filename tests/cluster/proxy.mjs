// The nginx that gives a REST server Supabase's paths, by the configuration that is in packaging.
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, owner, running } from './cluster.mjs';

// Debian puts it into a folder that is not in the PATH of users who are not root.
const NGINX = '/usr/sbin/nginx';
const PATHS = readFileSync(new URL('../../packaging/nginx/supabase_paths.conf', import.meta.url), 'utf8');

/** Replaces what must stand in the configuration: else it is another one than the tests were written for. */
function replaced(text, from, to) {
  if (!text.includes(from)) throw new Error(`the configuration of nginx has no ${from}`);
  return text.replaceAll(from, to);
}

export class Proxy {
  /** Starts a proxy in front of a REST server. Nothing is changed in the configuration but the two addresses and the
   * path under which the REST server of the tests serves. */
  static async start(rest) {
    const proxy = new Proxy();
    proxy.port = await freePort();
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    proxy.folder = mkdtempSync(join(tmpdir(), 'supabase_pat-proxy-'));
    const file = (name) => join(proxy.folder, name);
    let paths = replaced(PATHS, 'listen 127.0.0.1:8000;', `listen 127.0.0.1:${proxy.port};`);
    paths = replaced(paths, 'server 127.0.0.1:3000;', `server 127.0.0.1:${rest.port};`);
    paths = replaced(paths, 'http://postgrest/', 'http://postgrest/api/');
    writeFileSync(file('paths.conf'), paths);
    const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${file(kind)};`);
    writeFileSync(file('nginx.conf'), `daemon off; worker_processes 1; pid ${file('pid')}; events {}
      http { access_log off; ${folders.join(' ')} include ${file('paths.conf')}; }`);
    for (const path of [proxy.folder, file('paths.conf'), file('nginx.conf')]) {
      if (owner.uid !== undefined) chownSync(path, owner.uid, owner.gid);
    }
    const command = ['-e', file('log'), '-p', proxy.folder, '-c', file('nginx.conf')];
    proxy.process = spawn(NGINX, command, { cwd: '/', stdio: 'ignore', ...owner });
    proxy.process.once('error', (error) => { proxy.error = error; });
    running.add(proxy);
    for (let attempt = 0; attempt < 100; attempt += 1) {
      if (proxy.error || proxy.process.exitCode !== null) break;
      try {
        await fetch(proxy.url);
        return proxy;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    const { stderr } = spawnSync(NGINX, ['-t', ...command], { encoding: 'utf8', ...owner });
    proxy.stop();
    throw new Error(`nginx did not start: ${proxy.error ?? ''}\n${stderr}`);
  }

  stop() {
    running.delete(this);
    // Its workers end with it.
    this.process.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
