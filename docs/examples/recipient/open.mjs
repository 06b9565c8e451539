// Make a one-time key, print its public half, and open the token that a task of Airflow seals to it. Needs Node 20 and
// jose; the private half stays in this process.
//
//     node open.mjs TOKEN_FILE REPO    # prints the public key, then reads the sealed token from standard input

import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { calculateJwkThumbprint, compactDecrypt, exportJWK, generateKeyPair } from "jose";

const [file, repo] = process.argv.slice(2);
const { publicKey, privateKey } = await generateKeyPair("ECDH-ES", { crv: "X25519" });
const { kty, crv, x } = await exportJWK(publicKey);
console.log(JSON.stringify({ kty, crv, x }));

const [sealed] = await new Promise((resolve) => createInterface(process.stdin).once("line", (line) => resolve([line])));
const { plaintext, protectedHeader } = await compactDecrypt(sealed, privateKey, {
  keyManagementAlgorithms: ["ECDH-ES"],
  contentEncryptionAlgorithms: ["A256GCM"],
});
if (protectedHeader.typ !== "xethub-token+jwe" || protectedHeader.kid !== (await calculateJwkThumbprint({ kty, crv, x }))) {
  throw new Error("This is not a token for this process.");
}
const token = JSON.parse(new TextDecoder().decode(plaintext));
if (token.version !== 1 || token.repo !== repo || new Date(token.expires_at) <= new Date()) {
  throw new Error(`This is not a token for ${repo} that is valid now.`);
}
await writeFile(file, JSON.stringify(token), { mode: 0o600, flag: "wx" });
process.exit(0);
