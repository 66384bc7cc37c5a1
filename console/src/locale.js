// The languages. A page that has configured @lit/localize itself keeps its own: it can take `spanish` into its templates.
import { configureLocalization } from '@lit/localize';
import * as spanish from './locales/es.js';

export { spanish };
export const LANGUAGES = { en: 'English', es: 'Español' };

let localization = { getLocale: () => document.documentElement.lang || 'en', setLocale: async () => {} };
try {
  localization = configureLocalization({
    sourceLocale: 'en', targetLocales: ['es'], loadLocale: async () => spanish,
  });
} catch { /* the page has done it */ }

export const { getLocale } = localization;

/** Shows all elements in another language: `en` or `es`. */
export const { setLocale } = localization;
