import { LogController, type FastifyReply, type FastifyRequest } from 'fastify';

/** One line a request, with what was asked and what was answered, when it ends: two lines cost twice. */
export class RequestLog extends LogController {
  override incomingRequest(): void {
    // The line at its end has everything.
  }
  override requestCompleted(
    error: Error | null | undefined,
    request: FastifyRequest,
    reply: FastifyReply,
  ): void {
    const line = { req: request, res: reply, responseTime: reply.elapsedTime };
    if (error) reply.log.error({ ...line, err: error }, 'request errored');
    else reply.log.info(line, 'request completed');
  }
}
