-- Whom rows belong to. Whatever names a tenant that is not here has no limits.
CREATE TABLE "tenants" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "limits" JSONB NOT NULL DEFAULT '{}',
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "disabled_at" TIMESTAMPTZ(3),
    CONSTRAINT "tenants_pkey" PRIMARY KEY ("id")
);
INSERT INTO "tenants" ("id", "name") VALUES ('default', 'default');

-- Who did what, from where.
CREATE TABLE "audit_log" (
    "id" BIGSERIAL NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "actor" TEXT NOT NULL,
    "action" TEXT NOT NULL,
    "target" TEXT,
    "status" INTEGER NOT NULL,
    "address" TEXT NOT NULL,
    "request_id" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "audit_log_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "audit_log_tenant_id_id_idx" ON "audit_log"("tenant_id", "id");
CREATE INDEX "audit_log_created_at_idx" ON "audit_log"("created_at");

-- Pixels of a dataset's images, for quotas.
ALTER TABLE "datasets" ADD COLUMN "pixels" BIGINT NOT NULL DEFAULT 0;

-- Seconds for which workers held jobs, by the day on which they gave them back. Triggers keep it: however an attempt
-- ends (a result, a pause, a lost worker), its lease ends.
ALTER TABLE "jobs" ADD COLUMN "claimed_at" TIMESTAMPTZ(3);
CREATE TABLE "compute_usage" (
    "tenant_id" TEXT NOT NULL,
    "day" DATE NOT NULL,
    "seconds" DOUBLE PRECISION NOT NULL,
    CONSTRAINT "compute_usage_pkey" PRIMARY KEY ("tenant_id", "day")
);
CREATE FUNCTION "count_compute"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD."lease_token" IS NOT NULL AND OLD."claimed_at" IS NOT NULL THEN
    INSERT INTO "compute_usage" AS "u" ("tenant_id", "day", "seconds")
      VALUES (OLD."tenant_id", (now() AT TIME ZONE 'UTC')::date,
        greatest(0, extract(epoch FROM least(now(), OLD."lease_until") - OLD."claimed_at")))
      ON CONFLICT ("tenant_id", "day") DO UPDATE SET "seconds" = "u"."seconds" + EXCLUDED."seconds";
  END IF;
  NEW."claimed_at" := CASE WHEN NEW."lease_token" IS NULL THEN NULL ELSE now() END;
  RETURN NEW;
END $$;
CREATE TRIGGER "jobs_count_compute" BEFORE UPDATE ON "jobs" FOR EACH ROW
  WHEN (OLD."lease_token" IS DISTINCT FROM NEW."lease_token") EXECUTE FUNCTION "count_compute"();

-- Addresses that are told of events, and every telling.
CREATE TABLE "webhooks" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "url" TEXT NOT NULL,
    "events" TEXT[],
    "description" TEXT NOT NULL DEFAULT '',
    "secret" TEXT NOT NULL,
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "webhooks_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "webhooks_tenant_id_id_idx" ON "webhooks"("tenant_id", "id");
CREATE TABLE "webhook_deliveries" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT 'default',
    "webhook_id" TEXT NOT NULL,
    "type" TEXT NOT NULL,
    "payload" JSONB NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'pending',
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "response_status" INTEGER,
    "error" TEXT,
    "lease_until" TIMESTAMPTZ(3),
    "next_attempt_at" TIMESTAMPTZ(3) DEFAULT CURRENT_TIMESTAMP,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "delivered_at" TIMESTAMPTZ(3),
    CONSTRAINT "webhook_deliveries_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "webhook_deliveries_webhook_id_fkey" FOREIGN KEY ("webhook_id") REFERENCES "webhooks"("id") ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX "webhook_deliveries_webhook_id_id_idx" ON "webhook_deliveries"("webhook_id", "id");
-- What waits for another attempt.
CREATE INDEX "webhook_deliveries_waiting_idx" ON "webhook_deliveries"("next_attempt_at") WHERE "status" = 'pending';

-- Entries that are not to be dispatched before a time.
ALTER TABLE "outbox" ADD COLUMN "due" TIMESTAMPTZ(3);
