// Worker threads, the thread pool, timers, files, compression, a child and WebAssembly.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFileSync } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const zlib = require('zlib');

function sum(seed) {
    let sum = 0;
    for (let i = 0; i < 2e6; i++)
        sum = (sum * 31 + i + seed) >>> 0;
    return sum;
}

async function main() {
    console.log(crypto.createHash('sha256').update('x'.repeat(1e6)).digest('hex'));
    const file = `/tmp/occlum-node-${process.pid}`;
    fs.writeFileSync(file, 'hello');
    console.log(await fs.promises.readFile(file, 'utf8'));
    fs.unlinkSync(file);
    console.log(zlib.gunzipSync(zlib.gzipSync(Buffer.alloc(1e6, 'ab'))).length);
    const work = (seed) => new Promise((done, failed) => {
        const worker = new Worker(__filename, { workerData: seed });
        worker.on('message', done);
        worker.on('error', failed);
    });
    console.log((await Promise.all([1, 2, 3].map(work))).join());
    const keys = [1, 2, 3, 4, 5].map((n) => new Promise((done, failed) =>
        crypto.pbkdf2(`${n}`, 'salt', 1000, 16, 'sha512', (e, key) => e ? failed(e) : done(key.toString('hex')))));
    console.log((await Promise.all(keys)).join());
    const start = Date.now();
    await new Promise((done) => setTimeout(done, 50));
    console.log(Date.now() - start >= 49);
    console.log(execFileSync('/bin/echo', ['from', 'a', 'child']).toString().trim());
    console.log(String(await WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))));
}

if (isMainThread)
    main();
else
    parentPort.postMessage(sum(workerData));
