const field = (number: number, value: number | string | Buffer): Buffer => {
  if (typeof value === 'number') return Buffer.from([number << 3, value]);
  const bytes = Buffer.from(value as string);
  // Lengths as varints of two bytes, valid for short ones too.
  const length = [(bytes.length & 127) | 128, bytes.length >> 7];
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes]);
};
const message = (...fields: Buffer[]) => Buffer.concat(fields);
/** An ONNX network written by hand: the mean of each channel is the logit of its colour. */
export function meanColourOnnx(): Buffer {
  const node = (op: string, input: string, output: string) =>
    field(1, message(field(1, input), field(2, output), field(4, op)));
  const tensor = (name: string, dims: (number | string)[]) => {
    const shape = dims.map((d) => field(1, typeof d === 'number' ? field(1, d) : field(2, d)));
    return message(field(1, name), field(2, field(1, message(field(1, 1), field(2, message(...shape))))));
  };
  const graph = message(
    node('GlobalAveragePool', 'image', 'pooled'),
    node('Flatten', 'pooled', 'logits'),
    field(2, 'colours'),
    field(11, tensor('image', ['N', 3, 4, 4])),
    field(12, tensor('logits', ['N', 3])),
  );
  return message(field(1, 8), field(7, graph), field(8, message(field(1, ''), field(2, 17))));
}
