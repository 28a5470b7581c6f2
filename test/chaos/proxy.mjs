/** An HTTP proxy in front of the S3 server that fails as networks and servers do, for as long as it is told to. */
import http from 'node:http';
import { once } from 'node:events';

/**
 * - `errors`: 503 at once;
 * - `timeouts`: the request is taken and never answered; cut off when the trouble is over;
 * - `truncated`: of every answer with a body only half is sent, then the connection is cut.
 */
export const S3_TROUBLE = ['errors', 'timeouts', 'truncated'];

/** @param target port of the real server on 127.0.0.1; `port`: where to listen. */
export async function startProxy(port, target) {
  let trouble = null;
  /** Requests that met the trouble there is. */
  let affected = 0;
  const hanging = new Set();
  const agent = new http.Agent({ keepAlive: true });
  const server = http.createServer((request, response) => {
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    if (trouble === 'errors') {
      affected += 1;
      request.resume();
      response.writeHead(503, { 'content-length': 0, connection: 'close' }).end();
      return;
    }
    if (trouble === 'timeouts') {
      affected += 1;
      hanging.add(request.socket);
      request.resume();
      return;
    }
    forward(request, response);
  });

  function forward(request, response) {
    const { method, url, headers } = request;
    const onward = http.request({ host: '127.0.0.1', port: target, method, path: url, headers, agent });
    onward.on('response', (answer) => {
      const size = Number(answer.headers['content-length'] ?? 0);
      response.writeHead(answer.statusCode, answer.headers);
      answer.on('error', () => response.destroy());
      if (trouble !== 'truncated' || method !== 'GET' || size < 2) return answer.pipe(response);
      affected += 1;
      let left = size >> 1;
      answer.on('data', (chunk) => {
        response.write(chunk.subarray(0, left));
        left -= chunk.length;
        if (left > 0) return;
        answer.destroy();
        // What was written is to arrive before the connection ends.
        setTimeout(() => response.destroy(), 20);
      });
    });
    onward.on('error', () => response.destroy());
    request.on('aborted', () => onward.destroy());
    request.pipe(onward);
  }

  server.keepAliveTimeout = 60_000;
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    begin(kind) {
      affected = 0;
      trouble = kind;
    },
    get affected() {
      return affected;
    },
    end() {
      trouble = null;
      for (const socket of hanging) socket.destroy();
      hanging.clear();
    },
    close() {
      agent.destroy();
      server.closeAllConnections();
      server.close();
    },
  };
}
