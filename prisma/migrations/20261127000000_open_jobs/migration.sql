-- A tenant's jobs that have not ended are counted at every submission, whatever it had before.
CREATE INDEX "jobs_open_idx" ON "jobs"("tenant_id") WHERE "status" NOT IN ('cancelled', 'succeeded', 'failed');
