/** Text from users (labels, names) made safe to show, without changing what it says. */

/** Control, format (bidirectional overrides, zero width), line separator, unpaired surrogate characters and non-characters. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Noncharacter_Code_Point}]/gu;
/** What could start Markdown or HTML inside a line or a table cell, links without brackets included. */
const MARKUP = /[\\`*_[\]<>|~&$:@]|(?<=www)\./gi;
const LONGEST = 100;

const codePoint = (character: string) =>
  character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');

/** Plain text as one line of Markdown: nothing in it is markup, nothing in it is invisible, at most 100 characters. */
export const markdownText = (value: string): string =>
  visible(cut(value, LONGEST).replace(MARKUP, (character) => `\\${character}`));

/** The same for the text and the attributes of HTML and SVG, which forbid a few characters altogether. */
export const xmlText = (value: string, longest = LONGEST): string =>
  visible(cut(value, longest).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`));

function cut(value: string, longest: number): string {
  // Whoever sends megabytes of name does not have them split into characters.
  const characters = [...value.slice(0, 2 * longest + 2)];
  return characters.length > longest ? `${characters.slice(0, longest - 1).join('')}…` : value;
}

const visible = (value: string): string =>
  value.replace(INVISIBLE, (character) => `⟨U+${codePoint(character)}⟩`);

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
