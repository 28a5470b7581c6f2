/**
 * Where webhooks may lead. The service stands inside a network that its users are outside of: an address is judged when
 * it is connected to, after its name was resolved, so that no name can lead elsewhere than where it was judged to lead.
 */
import { lookup as resolve } from 'node:dns/promises';
import type { LookupAddress } from 'node:dns';
import { BlockList, isIP } from 'node:net';

/** Not of the public internet (IANA's special-purpose registries), clouds' metadata services included. */
const FORBIDDEN_V4 = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12'],
  ...['192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15'],
  ...['198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
];
/** Of IPv6 only this is public, but for documentation and what carries an IPv4 address inside. */
const GLOBAL_V6 = ['2000::/3'];
const FORBIDDEN_V6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

const forbidden = rangesOf([...FORBIDDEN_V4, ...FORBIDDEN_V6]);
const globalV6 = rangesOf(GLOBAL_V6);

function rangesOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [network = '', prefix] = range.split('/');
    const family = isIP(network) === 6 ? 'ipv6' : 'ipv4';
    list.addSubnet(network, Number(prefix ?? (family === 'ipv6' ? 128 : 32)), family);
  }
  return list;
}
const inside = (list: BlockList, address: string): boolean =>
  list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');

/** This address, or this URL, is not to be connected to. The message is for the webhook's owner. */
export class AddressRefused extends Error {
  override name = 'AddressRefused';
}

type Lookup = (host: string) => Promise<LookupAddress[]>;

export class AddressGuard {
  readonly #hosts: ReadonlySet<string>;
  readonly #ranges: BlockList;
  readonly #lookup: Lookup;

  /** @param allowed host names, addresses and ranges (CIDR) that the operator allows although they are not public. */
  constructor(allowed: readonly string[], lookup: Lookup = (host) => resolve(host, { all: true })) {
    this.#lookup = lookup;
    const isRange = (entry: string): boolean => isIP(entry.split('/')[0]!) !== 0;
    this.#hosts = new Set(allowed.filter((entry) => !isRange(entry)).map((entry) => entry.toLowerCase()));
    this.#ranges = rangesOf(allowed.filter(isRange));
  }

  /** The URL, as far as it can be judged without resolving its name. @throws {AddressRefused} */
  checkUrl(text: string): URL {
    if (!URL.canParse(text)) throw new AddressRefused('is not a URL');
    const url = new URL(text);
    const host = hostOf(url);
    if (url.protocol !== 'https:' && url.protocol !== 'http:')
      throw new AddressRefused('must begin with https://');
    if (url.username || url.password) throw new AddressRefused('must not hold a user or password');
    if (isIP(host) ? !this.#isAllowed(host) : /(^|\.)localhost$/.test(host) && !this.#hosts.has(host))
      throw new AddressRefused('leads to an address that is not public');
    const exempt = this.#hosts.has(host) || (isIP(host) !== 0 && inside(this.#ranges, host));
    if (url.protocol === 'http:' && !exempt) throw new AddressRefused('must begin with https://');
    return url;
  }

  /** Addresses to connect to. One that is not allowed makes all of them suspect. @throws {AddressRefused} */
  async resolve(url: URL): Promise<LookupAddress[]> {
    const host = hostOf(url);
    const family = isIP(host);
    const found = family ? [{ address: host, family }] : await this.#lookup(host);
    if (!this.#hosts.has(host) && !found.every(({ address }) => this.#isAllowed(address)))
      throw new AddressRefused('leads to an address that is not public');
    return found;
  }

  #isAllowed(address: string): boolean {
    if (inside(this.#ranges, address)) return true;
    return !inside(forbidden, address) && (isIP(address) === 4 || inside(globalV6, address));
  }
}

/** Without the brackets of an IPv6 address, or the dot at the end of a name. */
const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$|\.$/g, '');
