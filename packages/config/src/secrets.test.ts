import { expect, test } from 'vitest';
import { withoutSecrets } from './index.js';

test.each([
  ['"authorization":"Bearer some-key-of-mine"', '"authorization":"Bearer [secret]"'],
  ['key ntaa_AbC-123_xyz456 was used', 'key [secret] was used'],
  ['"secret":"whsec_aGVsbG8gd29ybGQ+/w=="', '"secret":"[secret]"'],
  ['PUT /v1/uploads/up_1/parts/2?token=abc-DEF_1', 'PUT /v1/uploads/up_1/parts/2?token=[secret]'],
  [
    'http://s3/x?X-Amz-Credential=AK&X-Amz-Signature=0f',
    'http://s3/x?X-Amz-Credential=[secret]&X-Amz-Signature=[secret]',
  ],
  ['postgres://user:hun:ter2@db:5432/x', 'postgres://user:[secret]@db:5432/x'],
  ['{"job":"job_1","url":"http://h:80/v1/jobs"}', '{"job":"job_1","url":"http://h:80/v1/jobs"}'],
])('%s', (line, clean) => {
  expect(withoutSecrets(line)).toBe(clean);
});
