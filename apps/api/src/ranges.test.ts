import { expect, test } from 'vitest';
import { attachment, selectRange } from './ranges.js';

const TAG = '"abc"';
const select = (headers: Record<string, string>, size = 10) => selectRange(headers, TAG, size);

test.each([
  ['bytes=0-3', { status: 206, start: 0, end: 3 }],
  ['bytes=4-', { status: 206, start: 4, end: 9 }],
  ['bytes=-3', { status: 206, start: 7, end: 9 }],
  ['bytes=-30', { status: 206, start: 0, end: 9 }],
  ['bytes=8-99', { status: 206, start: 8, end: 9 }],
  ['bytes=10-', { status: 416 }],
  ['bytes=-0', { status: 416 }],
  ['bytes=5-4', { status: 200 }],
  ['bytes=-', { status: 200 }],
  ['bytes=0-1,3-4', { status: 200 }],
  ['lines=0-1', { status: 200 }],
])('%s', (range, expected) => {
  expect(select({ range })).toEqual(expected);
});

test('an empty file has no range', () => {
  expect(select({ range: 'bytes=0-' }, 0)).toEqual({ status: 416 });
  expect(select({ range: 'bytes=-1' }, 0)).toEqual({ status: 416 });
});

test('conditions', () => {
  expect(select({ 'if-none-match': TAG })).toEqual({ status: 304 });
  expect(select({ 'if-none-match': `"x", W/${TAG}`, range: 'bytes=0-1' })).toEqual({ status: 304 });
  expect(select({ 'if-none-match': '*' })).toEqual({ status: 304 });
  expect(select({ 'if-none-match': '"x"' })).toEqual({ status: 200 });
  expect(select({ 'if-range': TAG, range: 'bytes=0-1' }).status).toBe(206);
  expect(select({ 'if-range': '"old"', range: 'bytes=0-1' }).status).toBe(200);
  expect(select({ 'if-range': `W/${TAG}`, range: 'bytes=0-1' }).status).toBe(200);
});

test('file names are safe in a header and kept in UTF-8', () => {
  expect(attachment('mdl_1-bundle.zip')).toBe('attachment; filename="mdl_1-bundle.zip"');
  expect(attachment('a"\r\nb\u00e9.zip')).toBe(
    `attachment; filename="a___b_.zip"; filename*=UTF-8''a%22%0D%0Ab%C3%A9.zip`,
  );
  expect(attachment('../x')).toBe(`attachment; filename="__x"; filename*=UTF-8''..%2Fx`);
});
