import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readSafetensors, writeSafetensors, type NamedTensors } from './index.js';

/** A file with this header text, or this header length, before `values` zero bytes. */
function file(header: unknown, values = 0, length?: bigint): Uint8Array {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + values);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const f32 = (shape: unknown, data_offsets: unknown) => ({ dtype: 'F32', shape, data_offsets });

describe('safetensors', () => {
  it('returns what was written, to the bit, from any alignment', () => {
    const tensor = fc
      .tuple(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }), fc.infiniteStream(fc.float()))
      .map(([shape, values]) => {
        const size = shape.reduce((a, b) => a * b, 1);
        return { shape, data: Float32Array.from({ length: size }, () => values.next().value) };
      });
    const name = fc.string().filter((s) => s !== '__metadata__');
    const named = fc
      .array(fc.tuple(name, tensor), { maxLength: 5 })
      .map((list): NamedTensors => new Map(list));
    fc.assert(
      fc.property(named, fc.dictionary(fc.string(), fc.string()), fc.nat(7), (tensors, metadata, shift) => {
        const bytes = writeSafetensors(tensors, metadata);
        const shifted = Buffer.concat([Buffer.alloc(shift), bytes]).subarray(shift);
        const back = readSafetensors(shifted);
        expect(new Map([...back.tensors].sort())).toEqual(new Map([...tensors].sort()));
        expect({ ...back.metadata }).toEqual({ ...metadata });
        expect(writeSafetensors(new Map([...tensors].reverse()), metadata)).toEqual(bytes);
      }),
    );
  });

  it('reads half precision', () => {
    const halves = [0x0000, 0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x3555];
    const bytes = file({ h: { dtype: 'F16', shape: [7], data_offsets: [0, 14] } }, 14);
    new Uint8Array(bytes.buffer, bytes.length - 14).set(new Uint8Array(Uint16Array.from(halves).buffer));
    const values = [...readSafetensors(bytes).tensors.get('h')!.data];
    expect(values).toEqual([0, 1, -2, 65504, 2 ** -24, Infinity, 0.333251953125]);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(), /shorter than 8/],
    ['a header past the end', file('{}', 0, 3n), /a header of 3 bytes/],
    ['a header of 2^64 - 1 bytes', file('{}', 0, 2n ** 64n - 1n), /a header of 18446744073709551615 bytes/],
    ['no JSON', file('{"a":'), /not JSON/],
    ['broken UTF-8', Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0xff), /not JSON/],
    ['a list', file('[]'), /not an object/],
    ['metadata that are not text', file({ __metadata__: { a: 1 } }), /metadata/],
    ['an entry that is no object', file({ a: null }), /not F32 or F16/],
    ['another type', file({ a: { ...f32([1], [0, 8]), dtype: 'F64' } }, 8), /not F32 or F16/],
    ['a negative size', file({ a: f32([-1], [0, 4]) }, 4), /no valid shape/],
    ['a fractional size', file({ a: f32([0.5], [0, 2]) }, 2), /no valid shape/],
    ['sizes whose product overflows', file({ a: f32([2 ** 33, 2 ** 33], [0, 4]) }, 4), /spans 4 bytes/],
    ['a reversed range', file({ a: f32([1], [4, 0]) }, 4), /spans -4 bytes/],
    ['three offsets', file({ a: f32([1], [0, 4, 8]) }, 4), /no valid offsets/],
    ['offsets as text', file({ a: f32([1], ['0', '4']) }, 4), /no valid offsets/],
    ['values past the end', file({ a: f32([2], [0, 8]) }, 4), /past the file/],
    ['an overlap', file({ a: f32([2], [0, 8]), b: f32([2], [4, 12]) }, 12), /starts at byte 4 instead of 8/],
    ['a hole', file({ a: f32([1], [0, 4]), b: f32([1], [8, 12]) }, 12), /starts at byte 8 instead of 4/],
    ['values that belong to nothing', file({ a: f32([1], [0, 4]) }, 5), /1 bytes belong to no tensor/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => readSafetensors(bytes)).toThrow(message);
    expect(() => readSafetensors(bytes)).toThrow(/not a valid safetensors file/);
  });

  it('survives random damage: a clear error or a whole file', () => {
    const tensors: NamedTensors = new Map([['a', { shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) }]]);
    const bytes = writeSafetensors(tensors, { key: 'value' });
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
        const damaged = bytes.slice();
        damaged[at] = value;
        try {
          for (const { shape, data } of readSafetensors(damaged).tensors.values())
            expect(data.length).toBe(shape.reduce((a, b) => a * b, 1));
        } catch (error) {
          expect((error as Error).message).toMatch(/not a valid safetensors file/);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('does not write what it could not read', () => {
    const data = new Float32Array(2);
    expect(() => writeSafetensors(new Map([['a', { shape: [3], data }]]), {})).toThrow(
      /shape \[3\], 2 values/,
    );
    expect(() => writeSafetensors(new Map([['__metadata__', { shape: [2], data }]]), {})).toThrow();
  });
});
