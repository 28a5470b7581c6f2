-- Parts of running jobs' work that any worker may do.
CREATE TABLE "pieces" (
    "id" TEXT NOT NULL,
    "job_id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "position" INTEGER NOT NULL,
    "engine" TEXT NOT NULL,
    -- JSON as text: what is made of a result must not depend on where it was made, and jsonb sorts keys.
    "spec" JSON NOT NULL,
    "result" JSON,
    "lease_token" TEXT,
    "lease_until" TIMESTAMPTZ(3),
    "worker" TEXT,
    "failures" INTEGER NOT NULL DEFAULT 0,
    "seconds" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "claimed_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "pieces_pkey" PRIMARY KEY ("job_id", "id")
);
-- Those that somebody could take.
CREATE INDEX "pieces_open_idx" ON "pieces"("job_id", "position") WHERE "result" IS NULL;
