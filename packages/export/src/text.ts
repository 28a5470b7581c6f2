/** Text from users (labels, names) made safe to show, without changing what it says. */

/** Control, format (bidirectional overrides, zero width), line separator and unpaired surrogate characters. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;
/** What could start Markdown or HTML inside a line or a table cell, links without brackets included. */
const MARKUP = /[\\`*_[\]<>|~&$:@]|(?<=www)\./gi;
const LONGEST = 100;

const codePoint = (character: string) =>
  character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');

/** Plain text as one line of Markdown: nothing in it is markup, nothing in it is invisible, at most 100 characters. */
export function markdownText(value: string): string {
  const characters = [...value];
  const short = characters.length > LONGEST ? `${characters.slice(0, LONGEST - 1).join('')}…` : value;
  return short
    .replace(MARKUP, (character) => `\\${character}`)
    .replace(INVISIBLE, (character) => `⟨U+${codePoint(character)}⟩`);
}

/** Indented JSON in which invisible characters are written as escapes: it parses to the same value. */
export function safeJson(value: unknown): string {
  const json = JSON.stringify(value, null, 1);
  // Line feeds are the indentation: inside strings JSON has escaped them already.
  const escaped = json.replace(INVISIBLE, (character) =>
    character === '\n' ? character : escape(character),
  );
  return `${escaped}\n`;
}

/** One \uXXXX a UTF-16 unit. */
function escape(character: string): string {
  return character
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');
}
