import { expect, test } from 'vitest';
import { AddressGuard, AddressRefused } from './guard.js';
import { post } from './post.js';

const guard = new AddressGuard([]);
const NEVER = AbortSignal.timeout(5000);

test.each([
  'http://127.0.0.1/',
  'https://127.0.0.1/',
  'https://127.1/',
  'https://2130706433/',
  'https://0x7f000001/',
  'https://0177.0.0.1/',
  'https://0.0.0.0/',
  'https://10.1.2.3/',
  'https://100.64.0.1/',
  'https://172.31.255.255/',
  'https://192.168.0.1/',
  'https://169.254.169.254/latest/meta-data/',
  'https://198.18.0.1/',
  'https://224.0.0.1/',
  'https://255.255.255.255/',
  'https://[::]/',
  'https://[::1]/',
  'https://[::ffff:127.0.0.1]/',
  'https://[::ffff:a00:1]/',
  'https://[64:ff9b::7f00:1]/',
  'https://[2002:7f00:1::]/',
  'https://[2001::1]/',
  'https://[fe80::1]/',
  'https://[fd00:ec2::254]/',
  'https://[ff02::1]/',
  'https://localhost/',
  'https://LOCALHOST./',
  'https://api.localhost:8443/',
  'http://example.com/',
  'ftp://example.com/',
  'file:///etc/passwd',
  'javascript:alert(1)',
  'https://user:pass@example.com/',
  '//example.com/',
  'example.com',
])('%s is refused before anything is asked', (url) => {
  expect(() => guard.checkUrl(url)).toThrow(AddressRefused);
});

test.each(['https://example.com/hook?x=1', 'https://93.184.216.34/', 'https://[2606:2800:220:1::1]:8443/'])(
  '%s is not',
  (url) => {
    expect(guard.checkUrl(url).href).toBe(url);
  },
);

test('a name that leads inside is refused, also when only one of its addresses does', async () => {
  const outside = { address: '93.184.216.34', family: 4 };
  for (const inside of ['127.0.0.1', '10.0.0.1', '169.254.169.254', '::1', 'fe80::1', '::ffff:10.0.0.1']) {
    const family = inside.includes(':') ? 6 : 4;
    const names = new AddressGuard([], () => Promise.resolve([outside, { address: inside, family }]));
    expect(await post(names, 'https://example.com/', {}, '', NEVER)).toEqual({
      status: null,
      error: 'the URL leads to an address that is not public',
    });
  }
});

test('a name is resolved once: one that leads elsewhere the next time (DNS rebinding) gains nothing', async () => {
  const answers = ['127.0.0.2', '169.254.169.254'];
  let asked = 0;
  const names = new AddressGuard(['127.0.0.2/32'], () =>
    Promise.resolve([{ address: answers[asked++]!, family: 4 }]),
  );
  // Nothing listens there: what matters is who was asked, and that nobody was asked again.
  const { status, error } = await post(names, 'https://example.com:1/', {}, '', NEVER);
  expect({ status, error, asked }).toEqual({
    status: null,
    error: 'could not be connected to, or hung up',
    asked: 1,
  });
});

test('what the operator allows', async () => {
  const own = new AddressGuard(['10.0.0.0/8', '::1', 'hooks.internal'], () =>
    Promise.resolve([{ address: '192.168.1.1', family: 4 }]),
  );
  for (const url of ['https://10.9.8.7/', 'http://10.9.8.7/', 'http://[::1]:80/', 'http://hooks.internal/'])
    expect(own.checkUrl(url)).toBeInstanceOf(URL);
  expect(await own.resolve(new URL('http://HOOKS.internal/'))).toHaveLength(1);
  await expect(own.resolve(new URL('https://other.internal/'))).rejects.toThrow(AddressRefused);
  expect(() => own.checkUrl('https://11.0.0.1/')).not.toThrow();
  expect(() => own.checkUrl('https://127.0.0.1/')).toThrow(AddressRefused);
});
