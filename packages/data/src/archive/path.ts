import { DatasetError } from '@ntaa/contracts';

const LONGEST_PATH = 1024;
/** A folder's picture, which macOS leaves in it under this name. */
const MAC_ICON = /(^|\/)Icon\r$/;
/** They make a name read as another, or steer the terminal or log it is shown in. (A NUL is worth words of its own.) */
const CONTROL = /\p{Cc}/u;
const DIRECTION = /[\u202a-\u202e\u2066-\u2069]/u;

/**
 * A member's path in plain form: relative, `/` between the parts, no `.` or empty parts, Unicode NFC.
 * @throws {DatasetError} `archive-unsafe-path` for whatever could lead outside of a folder on any system.
 */
export function safePath(path: string): string {
  const refuse = (why: string): never => {
    throw new DatasetError('archive-unsafe-path', `the archive holds ${why}`, path.slice(0, 200));
  };
  if (path.length > LONGEST_PATH) refuse(`a path of more than ${LONGEST_PATH} characters`);
  if (path.includes('\0')) refuse('a path with a NUL character');
  if (CONTROL.test(path.replace(MAC_ICON, ''))) refuse('a path with a control character');
  if (DIRECTION.test(path)) refuse('a path with an invisible mark that turns its direction of reading');
  if (path.includes('\\')) refuse('a path with a backslash; write paths with forward slashes');
  if (path.startsWith('/')) refuse('an absolute path');
  if (/^[a-zA-Z]:/.test(path)) refuse('a path with a drive letter');
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) refuse('a path that climbs out by ".."');
  return parts.join('/').normalize('NFC');
}

/** What operating systems and tools leave in archives: not worth a line in the report. */
export function isJunk(path: string): boolean {
  return path
    .split('/')
    .some(
      (part) =>
        part.startsWith('.') ||
        part === '__MACOSX' ||
        MAC_ICON.test(part) ||
        part === 'Thumbs.db' ||
        part === 'desktop.ini',
    );
}
