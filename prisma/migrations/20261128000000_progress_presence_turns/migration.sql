-- `failures` are those since the job last got on, by which it is ended; this counts all of them, whoever writes.
ALTER TABLE "jobs" ADD COLUMN "failures_total" INTEGER NOT NULL DEFAULT 0;
UPDATE "jobs" SET "failures_total" = "failures" WHERE "failures" > 0;
CREATE FUNCTION "count_failures"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW."failures_total" := OLD."failures_total" + NEW."failures" - OLD."failures";
  RETURN NEW;
END $$;
CREATE TRIGGER "jobs_count_failures" BEFORE UPDATE ON "jobs" FOR EACH ROW
  WHEN (NEW."failures" > OLD."failures") EXECUTE FUNCTION "count_failures"();

-- How many jobs a worker may hold, how many more it could take, and since when it could have taken one and has not.
ALTER TABLE "workers" ADD COLUMN "slots" INTEGER NOT NULL DEFAULT 1;
ALTER TABLE "workers" ADD COLUMN "free" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "workers" ADD COLUMN "idle_since" TIMESTAMPTZ(3);

-- Whose turn it is: tenants are served by those of their jobs that run, then by who was served longest ago.
ALTER TABLE "jobs" ADD COLUMN "priority" INTEGER NOT NULL DEFAULT 0;
CREATE TABLE "turns" (
    "tenant_id" TEXT NOT NULL,
    "served_at" TIMESTAMPTZ(3) NOT NULL,
    CONSTRAINT "turns_pkey" PRIMARY KEY ("tenant_id")
);
-- The next job of each tenant.
CREATE INDEX "jobs_next_idx" ON "jobs"("tenant_id", "priority" DESC, "queued_at", "id") WHERE "status" = 'queued';
