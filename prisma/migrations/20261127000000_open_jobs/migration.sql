-- A tenant's jobs that have not ended are counted at every submission, whatever it had before.
CREATE INDEX "jobs_open_idx" ON "jobs"("tenant_id") WHERE "status" NOT IN ('cancelled', 'succeeded', 'failed');
-- And those that workers hold, for the compute they take just now.
CREATE INDEX "jobs_held_idx" ON "jobs"("tenant_id") WHERE "lease_token" IS NOT NULL;
