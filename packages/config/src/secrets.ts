/** What must not be read in a log, wherever in a line it stands: a library may log what it was given. */
const SECRETS: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  // API keys and webhook secrets of ours; whatever else is sent as a key.
  [/\bntaa_[\w-]{8,}/g, '[secret]'],
  [/\bwhsec_[\w+/=-]{8,}/g, '[secret]'],
  [/\b(Bearer|Basic) +[^\s"\\,]+/gi, '$1 [secret]'],
  // Signed URLs: ours, and S3's.
  [/([?&](?:token|X-Amz-Signature|X-Amz-Security-Token|X-Amz-Credential)=)[^&\s"\\]+/gi, '$1[secret]'],
  // Passwords in addresses, as of DATABASE_URL.
  [/(\w:\/\/[^/\s"@:]*:)[^/\s"@]+@/g, '$1[secret]@'],
];

/** A line of a log without its secrets. */
export function withoutSecrets(line: string): string {
  return SECRETS.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), line);
}
