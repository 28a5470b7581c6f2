/**
 * The safetensors file format (github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header
 * of {name: {dtype, shape, data_offsets}}, then the values without gaps. Reading trusts nothing in the file.
 */
import { sizeOf, type NamedTensors, type PlainTensor } from './tensors.js';

/** As in the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = '__metadata__';
const BYTES = { F32: 4, F16: 2 } as const;

/** Tensors as float32, sorted by name: equal contents give equal bytes. */
export function writeSafetensors(tensors: NamedTensors, metadata: Record<string, string>): Uint8Array {
  const sorted = [...tensors].sort(([a], [b]) => (a < b ? -1 : 1));
  const header: [string, unknown][] = [
    [METADATA, Object.fromEntries(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)))],
  ];
  let offset = 0;
  for (const [name, { shape, data }] of sorted) {
    if (name === METADATA || data.length !== sizeOf(shape))
      throw new Error(`tensor ${name} cannot be written: shape [${shape.join(', ')}], ${data.length} values`);
    header.push([name, { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] }]);
    offset += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const start = 8 + Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(start + offset);
  bytes.fill(0x20, 8, start);
  bytes.set(json, 8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - 8), true);
  offset = start;
  for (const [, { data }] of sorted) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    offset += data.byteLength;
  }
  return bytes;
}

/** Reads F32 and F16 tensors. Throws Error that says what is wrong with the file. */
export function readSafetensors(bytes: Uint8Array): {
  tensors: NamedTensors;
  metadata: Record<string, string>;
} {
  const { header, start } = readHeader(bytes);
  const values = bytes.subarray(start);
  const metadata = readMetadata(header[METADATA]);
  const entries = Object.entries(header)
    .filter(([name]) => name !== METADATA)
    .map(([name, value]) => readEntry(name, value))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  const tensors: NamedTensors = new Map();
  let expected = 0;
  for (const { name, dtype, shape, begin, end } of entries) {
    if (begin !== expected) throw invalid(`tensor ${name} starts at byte ${begin} instead of ${expected}`);
    if (end > values.length) throw invalid(`tensor ${name} ends past the file`);
    expected = end;
    tensors.set(name, decode(dtype, shape, new Uint8Array(values.subarray(begin, end))));
  }
  if (expected !== values.length) throw invalid(`${values.length - expected} bytes belong to no tensor`);
  return { tensors, metadata };
}

function invalid(problem: string): Error {
  return new Error(`not a valid safetensors file: ${problem}`);
}

function readHeader(bytes: Uint8Array): { header: Record<string, unknown>; start: number } {
  if (bytes.length < 8) throw invalid('shorter than 8 bytes');
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES || Number(length) > bytes.length - 8)
    throw invalid(`a header of ${length} bytes in a file of ${bytes.length}`);
  const start = 8 + Number(length);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, start)));
  } catch {
    throw invalid('the header is not JSON');
  }
  if (!isRecord(header)) throw invalid('the header is not an object');
  return { header, start };
}

function readMetadata(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isRecord(value) || !Object.values(value).every((text) => typeof text === 'string'))
    throw invalid('the metadata are not strings');
  return value as Record<string, string>;
}

function readEntry(name: string, value: unknown) {
  const { dtype, shape, data_offsets: offsets } = isRecord(value) ? value : {};
  if (dtype !== 'F32' && dtype !== 'F16') throw invalid(`tensor ${name} is not F32 or F16`);
  if (!isSizes(shape)) throw invalid(`tensor ${name} has no valid shape`);
  if (!isSizes(offsets) || offsets.length !== 2) throw invalid(`tensor ${name} has no valid offsets`);
  const [begin, end] = offsets as [number, number];
  // A product past 2^53 is not exact, but then no file is as long either.
  if (end - begin !== sizeOf(shape) * BYTES[dtype])
    throw invalid(`tensor ${name} of shape [${shape.join(', ')}] spans ${end - begin} bytes`);
  return { name, dtype, shape, begin, end } as const;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** `bytes` is a buffer of its own, and so aligned. */
function decode(dtype: keyof typeof BYTES, shape: number[], bytes: Uint8Array): PlainTensor {
  if (dtype === 'F32') return { shape, data: new Float32Array(bytes.buffer) };
  return { shape, data: Float32Array.from(new Uint16Array(bytes.buffer), halfToFloat) };
}

/** IEEE 754 binary16. */
function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
