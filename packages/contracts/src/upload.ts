import { Type, type Static } from 'typebox';
import { DatasetFormat } from './dataset.js';
import { Id, Timestamp } from './ids.js';

export const UploadRequest = Type.Object(
  {
    size: Type.Integer({ minimum: 1, description: 'Bytes of the whole archive' }),
    filename: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, description: 'Default name of the dataset' }),
    ),
  },
  { additionalProperties: false, $id: 'UploadRequest' },
);
export type UploadRequest = Static<typeof UploadRequest>;

export const UploadPart = Type.Object({
  number: Type.Integer({ minimum: 1 }),
  offset: Type.Integer({ description: 'Where it begins in the archive, bytes' }),
  size: Type.Integer({ description: 'Bytes' }),
  url: Type.String({
    format: 'uri',
    description:
      'PUT the bytes here, without an API key. Parts may be sent in any order, several at a time, and again',
  }),
  received: Type.Boolean({ description: 'It has arrived whole' }),
});
export type UploadPart = Static<typeof UploadPart>;

/** An archive on its way in parts. Once all have arrived, `POST /v1/datasets` with its id makes a dataset of it. */
export const Upload = Type.Object(
  {
    id: Id('up'),
    object: Type.Literal('upload'),
    size: Type.Integer(),
    filename: Type.Union([Type.String(), Type.Null()]),
    part_size: Type.Integer(),
    /** Empty once it has become a dataset. */
    parts: Type.Array(UploadPart),
    dataset: Type.Union([Id('ds'), Type.Null()], { description: 'What it has become' }),
    created_at: Timestamp,
    expires_at: Timestamp,
  },
  { $id: 'Upload' },
);
export type Upload = Static<typeof Upload>;

/** `POST /v1/datasets` as JSON: from an upload in parts instead of a form. */
export const DatasetRequest = Type.Object(
  {
    upload: Id('up'),
    name: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, description: "Default: the upload's filename" }),
    ),
    format: Type.Optional(DatasetFormat),
  },
  { additionalProperties: false, $id: 'DatasetRequest' },
);
export type DatasetRequest = Static<typeof DatasetRequest>;
