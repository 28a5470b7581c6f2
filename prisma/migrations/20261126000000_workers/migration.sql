-- Workers that are there: what each runs, and when it last said so.
CREATE TABLE "workers" (
    "id" TEXT NOT NULL,
    "engine" JSONB NOT NULL,
    "seen_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "workers_pkey" PRIMARY KEY ("id")
);
