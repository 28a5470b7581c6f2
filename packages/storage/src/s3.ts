/** Objects in an S3 bucket. Bodies go up in parts, so that their size need not be known; S3 shows them once complete. */
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { Readable } from 'node:stream';
import { Digest, streamOf } from './digest.js';
import type { S3Settings } from './open.js';
import { s3Parts } from './s3-parts.js';
import { checkKey, checkPrefix, ObjectMissing, type ObjectStore, type StoredObject } from './store.js';

/** Bytes in memory for one upload: PART x PARALLEL. 10,000 parts allow objects of 80 GB. */
const PART = 8 * 2 ** 20;
const PARALLEL = 3;

export function s3Store(settings: S3Settings): ObjectStore {
  const { bucket, endpoint, region, credentials } = settings;
  const client = new S3Client({
    region,
    ...(endpoint ? { endpoint, forcePathStyle: true } : {}),
    ...(credentials ? { credentials } : {}),
    // Other servers than AWS's may not know the newer default checksums.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  const at = (key: string) => {
    checkKey(key);
    return { Bucket: bucket, Key: key };
  };

  async function* list(prefix: string): AsyncIterable<StoredObject> {
    for (let token: string | undefined; ;) {
      const page = await client.send(
        new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }),
      );
      for (const { Key, Size, LastModified } of page.Contents ?? [])
        yield { key: Key!, size: Size ?? 0, modified: LastModified ?? new Date(0) };
      token = page.NextContinuationToken;
      if (token === undefined) return;
    }
  }

  return {
    async put(key, body, options = {}) {
      const target = at(key);
      const source = streamOf(body);
      const digest = new Digest();
      // pipe() does not hand on failures: an aborted body must abort the upload, not end it.
      source.once('error', (error) => digest.destroy(error));
      source.once('close', () => {
        if (!source.readableEnded) digest.destroy(source.errored ?? new Error('The body was aborted'));
      });
      const upload = new Upload({
        client,
        params: { ...target, Body: digest, ContentType: options.contentType ?? 'application/octet-stream' },
        partSize: PART,
        queueSize: PARALLEL,
      });
      source.pipe(digest);
      try {
        await upload.done();
      } catch (error) {
        source.destroy();
        throw digest.errored ?? error;
      }
      return digest.result();
    },
    async get(key, range) {
      const part = range ? { Range: `bytes=${range.start}-${range.end}` } : {};
      try {
        const { Body } = await client.send(new GetObjectCommand({ ...at(key), ...part }));
        return Body as Readable;
      } catch (error) {
        throw isMissing(error) ? new ObjectMissing(key) : error;
      }
    },
    async head(key) {
      try {
        const { ContentLength } = await client.send(new HeadObjectCommand(at(key)));
        return { size: ContentLength ?? 0 };
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    async delete(key) {
      await client.send(new DeleteObjectCommand(at(key))).catch((error: unknown) => {
        // S3 says nothing of an object that is not there; some servers do, when two delete it at once for instance.
        if (!isMissing(error)) throw error;
      });
    },
    async deletePrefix(prefix) {
      checkPrefix(prefix);
      let batch: { Key: string }[] = [];
      const flush = async () => {
        if (batch.length === 0) return;
        const { Errors = [] } = await client.send(
          new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: batch, Quiet: true } }),
        );
        // As above: another who deletes the same folder may have come first.
        const failed = Errors.find(({ Code }) => Code !== 'NoSuchKey');
        if (failed) throw new Error(`${failed.Key} could not be deleted: ${failed.Message}`);
        batch = [];
      };
      for await (const { key } of list(prefix)) if (batch.push({ Key: key }) === 1000) await flush();
      await flush();
    },
    list,
    presignGet(key, seconds, filename) {
      const name = filename.replace(/[^\w.-]/g, '_');
      const disposition = `attachment; filename="${name}"`;
      return getSignedUrl(
        client,
        new GetObjectCommand({ ...at(key), ResponseContentDisposition: disposition }),
        { expiresIn: seconds },
      );
    },
    parts: s3Parts(client, at, isMissing),
    // Parts of an upload that was cut off are no object; a bucket's lifecycle rule ends them (docs/operations.md).
    sweep: () => Promise.resolve(),
    async ping() {
      await client.send(new HeadBucketCommand({ Bucket: bucket }));
    },
    close: () => Promise.resolve(client.destroy()),
  };
}

/** Of the object or upload. That the bucket is not there is an outage. (The answer to HEAD has no name for it.) */
const isMissing = (error: unknown): boolean =>
  error instanceof S3ServiceException &&
  error.$metadata.httpStatusCode === 404 &&
  error.name !== 'NoSuchBucket';
