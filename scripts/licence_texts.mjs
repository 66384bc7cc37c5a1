// The licences of code of others, as a file that is passed on with it: which are known, and where their texts are.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

// All are permissive. They ask to pass on their text.
const KNOWN = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT', 'MIT-0', 'Unicode-3.0', 'Unlicense', 'Zlib'];
const LICENCE_FILE = /^(licen[cs]es?|copying|copyright|notice|unlicense)([-._].*)?$/i;
const RULE = '-'.repeat(78);

/**
 * The text that passes on the licences of `packages`, each with its `name`, `version`, SPDX expression `license`,
 * `authors` and `folder`. `heading` is the lines before them. Throws at a licence that is not known.
 */
export function thirdParty(heading, packages) {
  const sorted = [...packages].sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version));
  for (const { name, version, license } of sorted) {
    const unknown = (license ?? 'none').split(/ OR | AND |[/()]/).map((id) => id.trim()).filter((id) => id && !KNOWN.includes(id));
    if (unknown.length > 0) throw new Error(`${name} ${version} has a licence that is not known here: ${unknown.join(', ')}`);
  }
  // Many share one text, with other spaces and line breaks.
  const texts = new Map();
  for (const one of sorted) {
    for (const text of licenceTexts(one)) {
      const key = text.replace(/\s+/g, ' ').trim();
      if (!texts.has(key)) texts.set(key, { text: text.replaceAll('\r', '').trimEnd(), of: new Set() });
      texts.get(key).of.add(`${one.name} ${one.version}`);
    }
  }
  return [
    ...heading,
    '',
    ...sorted.map(({ name, version, license }) => `${name} ${version}: ${license}`),
    ...[...texts.values()].map(({ text, of }) => `\n${RULE}\n${[...of].join(', ')}\n${RULE}\n\n${text}`),
    '',
  ].join('\n');
}

/** The licence texts in a package. Some only say `license = "MIT"`: for these the common text is used. */
function licenceTexts({ name, license, authors, folder }) {
  const files = readdirSync(folder).filter((file) => LICENCE_FILE.test(file)).sort().map((file) => join(folder, file))
    .flatMap((path) => (statSync(path).isDirectory() ? readdirSync(path).map((file) => join(path, file)) : [path]));
  if (files.length > 0) return files.map((file) => readFileSync(file, 'utf8'));
  if (license !== 'MIT') throw new Error(`${name} has no licence file, and is under ${license}`);
  return [`The MIT License

Copyright (c) ${authors.length > 0 ? authors.map((author) => author.replace(/ <.*/, '')).join(', ') : `the authors of ${name}`}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense,
and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN
NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY,
WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`];
}
