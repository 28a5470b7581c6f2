import { request as http } from 'node:http';
import { request as https } from 'node:https';
import type { LookupFunction } from 'node:net';
import { AddressRefused, type AddressGuard } from './guard.js';

/** More of an answer's body than this is not read, bytes. */
const READ = 16 * 1024;

export interface Posted {
  /** HTTP status; null: there was no answer. */
  readonly status: number | null;
  /** Why that is no success, for the webhook's owner; null: it is one. */
  readonly error: string | null;
}

/** Posts to where the guard allows, on a connection of its own. Redirects are not followed. Never throws. */
export async function post(
  guard: AddressGuard,
  address: string,
  headers: Readonly<Record<string, string>>,
  body: string,
  signal: AbortSignal,
): Promise<Posted> {
  try {
    const url = guard.checkUrl(address);
    const addresses = await guard.resolve(url);
    // What was judged is what is connected to: the name is not resolved again.
    const lookup: LookupFunction = (_host, { all }, done) => {
      if (all) done(null, addresses);
      else done(null, addresses[0]!.address, addresses[0]!.family);
    };
    const status = await new Promise<number>((answered, failed) => {
      const options = { method: 'POST', headers, lookup, signal, agent: false as const, maxHeaderSize: READ };
      const sent = (url.protocol === 'https:' ? https : http)(url, options, (response) => {
        let bytes = 0;
        response.on('data', (chunk: Buffer) => (bytes += chunk.length) > READ && response.destroy());
        response.on('error', () => undefined);
        answered(response.statusCode ?? 0);
      });
      sent.on('error', failed).end(body);
    });
    return { status, error: status >= 200 && status < 300 ? null : wordsFor(status) };
  } catch (error) {
    return { status: null, error: reasonOf(error) };
  }
}

function wordsFor(status: number): string {
  if (status >= 300 && status < 400) return `answered ${status}: redirects are not followed`;
  return status === 410 ? 'answered 410: it wants no more deliveries' : `answered ${status}`;
}

/** In words that tell nothing of the network the service stands in. */
function reasonOf(error: unknown): string {
  if (error instanceof AddressRefused) return `the URL ${error.message}`;
  const { code = '', name = '' } = error as { code?: string; name?: string };
  if (name === 'TimeoutError' || name === 'AbortError') return 'did not answer in time';
  if (/^(ENOTFOUND|EAI_)/.test(code)) return 'its host is not known';
  if (/CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(code))
    return `its certificate or TLS is not accepted (${code})`;
  return 'could not be connected to, or hung up';
}
