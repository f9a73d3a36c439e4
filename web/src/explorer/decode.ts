import { DataError } from "./contract";

/** Decode base64 of gzip of JSON. The message of a `DataError` continues "... cannot be read: ". */
export async function decode(packed: string): Promise<unknown> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    const text = atob(packed);
    bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  } catch {
    throw new DataError("it is not base64; the file may be cut short");
  }
  let json: string;
  try {
    json = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  } catch {
    throw new DataError("it does not unpack; the file may be cut short");
  }
  try {
    return JSON.parse(json);
  } catch {
    throw new DataError("it unpacks to something that is not JSON");
  }
}
