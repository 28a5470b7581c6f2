-- Archives that arrive in parts.
CREATE TABLE "uploads" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "filename" TEXT,
    "size" BIGINT NOT NULL,
    "part_size" INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    "handle" TEXT NOT NULL,
    "secret" TEXT NOT NULL,
    "dataset_id" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,
    CONSTRAINT "uploads_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "uploads_expires_at_idx" ON "uploads"("expires_at");

-- Of those the hash is known once a worker has read them.
ALTER TABLE "datasets" ALTER COLUMN "sha256" DROP NOT NULL;

-- Validations that failed through no fault of the archive, and when to try again.
ALTER TABLE "datasets" ADD COLUMN "failures" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "datasets" ADD COLUMN "retry_at" TIMESTAMPTZ(3);

-- Objects to be deleted, written in the transaction that gave them up.
CREATE TABLE "garbage" (
    "key" TEXT NOT NULL,
    "due" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "garbage_pkey" PRIMARY KEY ("key")
);
CREATE INDEX "garbage_due_idx" ON "garbage"("due");
CREATE TRIGGER "garbage_notify" AFTER INSERT ON "garbage"
  FOR EACH STATEMENT EXECUTE FUNCTION "notify_outbox"();
-- What jobs left behind before there was this table.
INSERT INTO "garbage" ("key")
  SELECT 'jobs/' || "id" || '/' FROM "jobs" WHERE "status" IN ('cancelled', 'succeeded', 'failed');
