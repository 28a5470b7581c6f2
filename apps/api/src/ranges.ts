/** Conditional and partial downloads (RFC 9110, sections 13 and 14) of an immutable file with a strong ETag. */
import type { IncomingHttpHeaders } from 'node:http';

export type Selection =
  | { readonly status: 200 | 304 | 416 }
  /** Bytes `start` to `end`, both included. */
  | { readonly status: 206; readonly start: number; readonly end: number };

/** What to send of a file of `size` bytes. Several ranges in one request are answered with the whole file. */
export function selectRange(headers: IncomingHttpHeaders, etag: string, size: number): Selection {
  const known = headers['if-none-match'];
  if (known !== undefined && (known.trim() === '*' || listsTag(known, etag))) return { status: 304 };
  const match = /^bytes=(\d*)-(\d*)$/i.exec(headers.range?.replaceAll(' ', '') ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return { status: 200 };
  const condition = headers['if-range'];
  // A date never matches: what was downloaded is identified by its hash.
  if (condition !== undefined && String(condition).trim() !== etag) return { status: 200 };
  const [first, last] = [match[1], match[2]].map((text) => (text ? Number(text) : null));
  if (first == null) {
    const start = Math.max(0, size - last!);
    return last === 0 || size === 0 ? { status: 416 } : { status: 206, start, end: size - 1 };
  }
  if (last != null && last < first) return { status: 200 };
  if (first >= size) return { status: 416 };
  return { status: 206, start: first, end: Math.min(last ?? size - 1, size - 1) };
}

/** If-None-Match compares weakly. */
const listsTag = (list: string, etag: string): boolean =>
  list.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);

/** Content-Disposition that saves as `filename` in every client: plain ASCII, and the exact name in UTF-8. */
export function attachment(filename: string): string {
  const ascii = filename.replace(/[^A-Za-z0-9._ -]/g, '_').replace(/^\.+/, '_');
  const exact = encodeURIComponent(filename).replace(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${ascii}"${ascii === filename ? '' : `; filename*=UTF-8''${exact}`}`;
}
