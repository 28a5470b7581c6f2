import { randomBytes } from 'node:crypto';
import { Type } from 'typebox';

export type IdKind = 'ds' | 'sn' | 'job' | 'mdl' | 'key' | 'req' | 'up' | 'ten' | 'wh' | 'msg';
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/** A prefixed id that sorts by creation time: 9 characters of milliseconds, 13 random ones (65 bits). */
export function newId<K extends IdKind>(kind: K): `${K}_${string}` {
  let time = '';
  for (let t = Date.now(), i = 0; i < 9; i++, t = Math.floor(t / 32)) time = ALPHABET[t % 32] + time;
  const random = Array.from(randomBytes(13), (byte) => ALPHABET[byte & 31]).join('');
  return `${kind}_${time}${random}`;
}

/** Schema of an id of one kind. */
export const Id = (kind: IdKind) =>
  Type.String({ pattern: `^${kind}_[0-9a-z]{1,40}$`, description: `Id with prefix ${kind}_` });

export const Timestamp = Type.String({ format: 'date-time', description: 'RFC 3339, UTC' });
