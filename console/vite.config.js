// Two builds: the page, and the elements in one file for pages without a bundler (`--mode elements`).
import { defineConfig } from 'vite';
import { licences } from './third_party.mjs';

export default defineConfig(({ mode }) => (mode === 'elements' ? {
  publicDir: false,
  plugins: [licences()],
  build: {
    target: 'es2022',
    outDir: 'dist/elements',
    lib: { entry: 'src/index.js', formats: ['es'], fileName: 'pat-console' },
    minify: 'esbuild',
  },
} : {
  root: 'app',
  base: './',
  plugins: [licences(['@supabase/supabase-js'])],
  // `API=http://127.0.0.1:… npm run dev` shows changes at once, with the API of a demo that runs.
  server: process.env.API ? { proxy: Object.fromEntries(['/rest', '/auth', '/config.json'].map((path) => [path, process.env.API])) } : {},
  build: {
    target: 'es2022',
    outDir: '../dist/page',
    emptyOutDir: true,
    // A data: address would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    // It would be an inline script, or a polyfill of what these browsers have.
    modulePreload: { polyfill: false },
    rollupOptions: {
      output: { manualChunks: (id) => (id.includes('node_modules') && !/\/(lit|lit-html|lit-element|@lit)\//.test(id) ? 'supabase' : undefined) },
    },
  },
}));
