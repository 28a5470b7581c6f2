-- Which trace work belongs to, where requests are traced: of the request that made a job, and of the stage that offered a piece.
ALTER TABLE "jobs" ADD COLUMN "traceparent" TEXT;
ALTER TABLE "pieces" ADD COLUMN "traceparent" TEXT;
