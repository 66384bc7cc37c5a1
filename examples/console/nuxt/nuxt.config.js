// `nuxt generate` makes a static site in .output/public. The elements draw in the browser, where the login is.
import { writeFile } from 'node:fs/promises';

export default defineNuxtConfig({
  compatibilityDate: '2026-01-01',
  ssr: false,
  // Neither the build nor the page asks anybody but the API.
  telemetry: false,
  devtools: { enabled: false },
  experimental: { appManifest: false },
  app: { head: { title: 'The elements in Nuxt', htmlAttrs: { lang: 'en' } } },
  // The compiler has to know which elements are not its own.
  vue: { compilerOptions: { isCustomElement: (tag) => tag.startsWith('pat-') } },
  hooks: {
    // Nuxt writes its configuration into each page as a script, which `script-src 'self'` lets in only as a file.
    'nitro:init': ({ hooks, options }) => hooks.hook('prerender:generate', async (route) => {
      const [inline, script] = /<script>(window\.__NUXT__=.*?)<\/script>/s.exec(route.contents ?? '') ?? [];
      if (!inline) return;
      route.contents = route.contents.replace(inline, () => `<script src="${options.baseURL}nuxt-config.js"></script>`);
      await writeFile(`${options.output.publicDir}/nuxt-config.js`, script);
    }),
  },
});
