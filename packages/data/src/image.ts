import type { PackOptions } from './types.js';

/**
 * Decodes one image (encoded bytes, or the path of a file) as Preprocessing says.
 * @returns uint8 RGB [height, width, 3].
 * @throws {ProblemError} `image-unreadable` when it is not a whole JPEG, PNG or WebP.
 */
export function decodeImage(_image: Uint8Array | string, _options: PackOptions): Promise<Uint8Array> {
  throw new Error('being written');
}
