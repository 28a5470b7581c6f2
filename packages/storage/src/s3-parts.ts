/** Parts as S3's own multipart uploads: clients send them to the bucket itself, by presigned URLs. */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListPartsCommand,
  UploadPartCommand,
  type CompletedPart,
  type Part,
  type S3Client,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { ObjectMissing, type PartStore, type PartUpload } from './store.js';

export function s3Parts(
  client: S3Client,
  at: (key: string) => { Bucket: string; Key: string },
  isMissing: (error: unknown) => boolean,
): PartStore {
  const target = ({ key, handle }: PartUpload) => ({ ...at(key), UploadId: handle });

  async function* arrived(upload: PartUpload): AsyncGenerator<Part> {
    for (let marker: string | undefined; ;) {
      const page = await client
        .send(new ListPartsCommand({ ...target(upload), PartNumberMarker: marker }))
        .catch((error: unknown) => {
          throw isMissing(error) ? new ObjectMissing(upload.key) : error;
        });
      yield* page.Parts ?? [];
      if (!page.IsTruncated) return;
      marker = page.NextPartNumberMarker;
    }
  }

  return {
    async begin(key) {
      const { UploadId } = await client.send(new CreateMultipartUploadCommand(at(key)));
      if (!UploadId) throw new Error('The S3 server gave the upload no id');
      return UploadId;
    },
    presign: (upload, { number }, expiresIn) =>
      getSignedUrl(client, new UploadPartCommand({ ...target(upload), PartNumber: number }), { expiresIn }),
    put: () => Promise.reject(new Error('Parts are sent to S3 itself, by their presigned URLs')),
    async list(upload) {
      const sizes = new Map<number, number>();
      for await (const { PartNumber, Size } of arrived(upload)) sizes.set(PartNumber!, Size ?? 0);
      return sizes;
    },
    async join(upload) {
      const parts: CompletedPart[] = [];
      for await (const { PartNumber, ETag } of arrived(upload)) parts.push({ PartNumber, ETag });
      await client.send(
        new CompleteMultipartUploadCommand({ ...target(upload), MultipartUpload: { Parts: parts } }),
      );
    },
    async abort(upload) {
      await client.send(new AbortMultipartUploadCommand(target(upload))).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
    },
  };
}
