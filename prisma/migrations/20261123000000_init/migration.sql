CREATE TABLE "api_keys" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "name" TEXT NOT NULL,
    "hash" TEXT NOT NULL,
    "scopes" TEXT[],
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "last_used_at" TIMESTAMPTZ(3),
    "revoked_at" TIMESTAMPTZ(3),
    CONSTRAINT "api_keys_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "api_keys_hash_key" ON "api_keys"("hash");

CREATE TABLE "datasets" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "name" TEXT NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'validating',
    "format" TEXT,
    "counts" JSONB,
    "labels" JSONB,
    "report" JSONB,
    "pack" JSONB,
    "upload_key" TEXT NOT NULL,
    "sha256" TEXT NOT NULL,
    "bytes" BIGINT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "ready_at" TIMESTAMPTZ(3),
    CONSTRAINT "datasets_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "datasets_tenant_id_id_idx" ON "datasets"("tenant_id", "id");

CREATE TABLE "supernets" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "name" TEXT NOT NULL,
    "source" TEXT NOT NULL,
    "paradigm" TEXT NOT NULL,
    "search_space" JSONB NOT NULL,
    "architectures" DOUBLE PRECISION NOT NULL,
    "params" BIGINT NOT NULL,
    "size_bytes" BIGINT NOT NULL,
    "sha256" TEXT NOT NULL,
    "metrics" JSONB NOT NULL,
    "builtin" BOOLEAN NOT NULL DEFAULT false,
    "key" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "supernets_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "supernets_tenant_id_name_key" ON "supernets"("tenant_id", "name");

CREATE TABLE "jobs" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "kind" TEXT NOT NULL,
    "task" TEXT,
    "dataset_id" TEXT NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'queued',
    "stage" TEXT,
    "attempt" INTEGER NOT NULL DEFAULT 0,
    "failures" INTEGER NOT NULL DEFAULT 0,
    "request" JSONB NOT NULL,
    "progress" JSONB NOT NULL,
    "result" JSONB,
    "error" JSONB,
    "stop_reason" TEXT,
    "last_seq" INTEGER NOT NULL DEFAULT 0,
    "lease_token" TEXT,
    "lease_until" TIMESTAMPTZ(3),
    "worker" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "queued_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),
    CONSTRAINT "jobs_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "jobs_tenant_id_id_idx" ON "jobs"("tenant_id", "id");
CREATE INDEX "jobs_status_queued_at_idx" ON "jobs"("status", "queued_at");
CREATE INDEX "jobs_dataset_id_idx" ON "jobs"("dataset_id");

CREATE TABLE "job_events" (
    "job_id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "seq" INTEGER NOT NULL,
    "type" TEXT NOT NULL,
    "data" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "job_events_pkey" PRIMARY KEY ("job_id", "seq")
);

CREATE TABLE "candidates" (
    "job_id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "key" TEXT NOT NULL,
    "order" BIGSERIAL NOT NULL,
    "data" JSONB NOT NULL,
    "pareto" BOOLEAN NOT NULL,
    "selected" BOOLEAN NOT NULL,
    CONSTRAINT "candidates_pkey" PRIMARY KEY ("job_id", "key")
);
CREATE UNIQUE INDEX "candidates_job_id_order_key" ON "candidates"("job_id", "order");

CREATE TABLE "checkpoints" (
    "job_id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "name" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "sha256" TEXT NOT NULL,
    "size" BIGINT NOT NULL,
    "attempt" INTEGER NOT NULL,
    "data" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "checkpoints_pkey" PRIMARY KEY ("job_id", "name")
);

CREATE TABLE "models" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "job_id" TEXT NOT NULL,
    "task" TEXT NOT NULL,
    "labels" JSONB NOT NULL,
    "genotype" JSONB NOT NULL,
    "macs" DOUBLE PRECISION NOT NULL,
    "params" BIGINT NOT NULL,
    "metrics" JSONB NOT NULL,
    "lineage" JSONB NOT NULL,
    "preprocessing" JSONB NOT NULL,
    "files" JSONB NOT NULL,
    "storage" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "models_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "models_tenant_id_id_idx" ON "models"("tenant_id", "id");

CREATE TABLE "outbox" (
    "id" BIGSERIAL NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "name" TEXT NOT NULL,
    "payload" JSONB NOT NULL,
    "dedupe" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "dispatched_at" TIMESTAMPTZ(3),
    CONSTRAINT "outbox_pkey" PRIMARY KEY ("id")
);
-- Dispatchers look only at what waits.
CREATE INDEX "outbox_waiting_idx" ON "outbox"("id") WHERE "dispatched_at" IS NULL;

CREATE TABLE "idempotency_keys" (
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "route" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "body_hash" TEXT NOT NULL,
    "status" INTEGER,
    "response" JSONB,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "idempotency_keys_pkey" PRIMARY KEY ("tenant_id", "route", "key")
);

-- Whoever listens learns of events and waiting outbox rows after the commit that made them.
CREATE FUNCTION "notify_job_events"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('ntaa_job', "job_id") FROM (SELECT DISTINCT "job_id" FROM "added") AS "changed";
  RETURN NULL;
END $$;
CREATE TRIGGER "job_events_notify" AFTER INSERT ON "job_events"
  REFERENCING NEW TABLE AS "added" FOR EACH STATEMENT EXECUTE FUNCTION "notify_job_events"();

CREATE FUNCTION "notify_outbox"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('ntaa_outbox', '');
  RETURN NULL;
END $$;
CREATE TRIGGER "outbox_notify" AFTER INSERT ON "outbox"
  FOR EACH STATEMENT EXECUTE FUNCTION "notify_outbox"();
