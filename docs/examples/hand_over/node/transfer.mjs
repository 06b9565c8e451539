// Upload or download one file with a Xet token that a task handed over. Needs @huggingface/hub, and no Hub token.
//
//   node transfer.mjs TOKEN_FILE upload FILE PATH_IN_REPO    prints the Xet file record
//   node transfer.mjs TOKEN_FILE download RECORD FILE        RECORD: a Xet file record as JSON

import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, openAsBlob, readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { downloadFile, uploadFiles } from "@huggingface/hub";

const [tokenFile, command, ...rest] = process.argv.slice(2);
// No server has this name: fetchWithToken answers what the client asks of the Hub.
const HUB = "http://hub.invalid";
const seen = { lfs: [], xetHash: null };

/** The token in the file as it is now: the task replaces it before it expires. */
function readToken() {
	const token = JSON.parse(readFileSync(tokenFile, "utf8"));
	if (token.version !== 1) {
		throw new Error(`${tokenFile} has version ${token.version}; this program reads version 1.`);
	}
	return token;
}

/** The fetch of the client: requests to CAS are sent, those to the Hub are answered here. */
async function fetchWithToken(input, init) {
	const url = new URL(input instanceof Request ? input.url : input);
	if (url.origin !== HUB) {
		if (url.pathname.endsWith("/shards")) {
			seen.xetHash = hashOfFirstFile(init.body);
		}
		return fetch(input, init);
	}
	if (url.pathname === "/token") {
		const token = readToken();
		return Response.json({ accessToken: token.access_token, exp: token.expires_at_unix, casUrl: token.cas_url });
	}
	if (url.pathname.includes("/preupload/")) {
		const { files } = JSON.parse(init.body);
		return Response.json({ files: files.map(({ path }) => ({ path, uploadMode: "lfs" })) });
	}
	if (url.pathname.endsWith("/info/lfs/objects/batch")) {
		const { objects } = JSON.parse(init.body);
		const actions = { upload: { href: `${HUB}/token`, header: {} } };
		return Response.json({ transfer: "xet", objects: objects.map((object) => ({ ...object, actions })) });
	}
	if (url.pathname.includes("/commit/")) {
		// Without a Hub token there is no commit: a task makes it, with the record that is printed below.
		const lines = init.body.split("\n").map((line) => JSON.parse(line));
		seen.lfs = lines.filter(({ key }) => key === "lfsFile").map(({ value }) => value);
		return Response.json({ commitOid: "", commitUrl: HUB });
	}
	throw new Error(`The client asked the Hub for ${url.pathname}, which takes a Hub token.`);
}

/** The Xet hash of the first file in a shard, which follows its header of 48 bytes, in the Hub's way to write it. */
function hashOfFirstFile(shard) {
	const view = new DataView(shard.buffer, shard.byteOffset + 48, 32);
	return [0, 8, 16, 24].map((at) => view.getBigUint64(at, true).toString(16).padStart(16, "0")).join("");
}

const repo = { type: "model", name: readToken().repo_id };
const hub = { repo, hubUrl: HUB, fetch: fetchWithToken };

if (command === "upload") {
	const [file, path] = rest;
	await uploadFiles({ ...hub, files: [{ path, content: await openAsBlob(file) }] });
	const [{ size, oid }] = seen.lfs;
	const record = { path, size, sha256: oid, xet_hash: seen.xetHash, repo: readToken().repo };
	console.log(JSON.stringify(record));
} else {
	const [record, file] = [JSON.parse(rest[0]), rest[1]];
	const reconstructionUrl = new URL(`${readToken().cas_url}/v2/reconstructions/${record.xet_hash}`);
	const xet = { hash: record.xet_hash, refreshUrl: new URL(`${HUB}/token`), reconstructionUrl };
	const downloadInfo = { size: record.size, etag: record.sha256, url: HUB, xet };
	const blob = await downloadFile({ ...hub, path: record.path, downloadInfo });
	await pipeline(Readable.fromWeb(blob.stream()), createWriteStream(file));
	const hash = createHash("sha256");
	await pipeline(createReadStream(file), hash);
	if (record.sha256 && hash.digest("hex") !== record.sha256) {
		throw new Error(`${file} arrived damaged.`);
	}
}
