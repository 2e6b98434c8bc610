// XXH3 with 64 and 128 bits and seed 0, so that the reader needs no package.
// BigInt holds the 64-bit words; asUintN(64, ...) is the arithmetic modulo 2^64 that the algorithm is made of.

const SECRET = Buffer.from(
  "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221" +
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8" +
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb" +
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e",
  "hex",
);
const PRIME32_1 = 0x9e3779b1n;
const PRIME32_2 = 0x85ebca77n;
const PRIME32_3 = 0xc2b2ae3dn;
const PRIME64_1 = 0x9e3779b185ebca87n;
const PRIME64_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME64_3 = 0x165667b19e3779f9n;
const PRIME64_4 = 0x85ebca77c2b2ae63n;
const PRIME64_5 = 0x27d4eb2f165667c5n;
const PRIME_MX1 = 0x165667919e3779f9n;
const PRIME_MX2 = 0x9fb21c651e98df25n;
const STRIPE = 64;
const STRIPES_OF_BLOCK = 16; // (192 - 64) / 8
const BLOCK = STRIPE * STRIPES_OF_BLOCK;

const u64 = (x) => BigInt.asUintN(64, x);
const word = (bytes, at) => bytes.readBigUInt64LE(at);
const half = (bytes, at) => BigInt(bytes.readUInt32LE(at));
const secretPair = (a, b) => word(SECRET, a) ^ word(SECRET, b);

function swap64(x) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(x);
  return bytes.readBigUInt64BE();
}

function rotate64(x, by) {
  return u64((x << by) | (x >> (64n - by)));
}

function fold(a, b) {
  const product = a * b; // 128 bits
  return u64(product) ^ (product >> 64n);
}

function avalanche(x) {
  x = u64((x ^ (x >> 37n)) * PRIME_MX1);
  return x ^ (x >> 32n);
}

function avalanche64(x) {
  x = u64((x ^ (x >> 33n)) * PRIME64_2);
  x = u64((x ^ (x >> 29n)) * PRIME64_3);
  return x ^ (x >> 32n);
}

function mix16(bytes, at, secretAt) {
  return fold(word(bytes, at) ^ word(SECRET, secretAt), word(bytes, at + 8) ^ word(SECRET, secretAt + 8));
}

function pack3(bytes) {
  const n = bytes.length;
  return ((bytes[0] << 16) | (bytes[n >> 1] << 24) | bytes[n - 1] | (n << 8)) >>> 0;
}

// Longer than 240 bytes: eight accumulators, stripes of 64 bytes, a scramble behind each block of 16 stripes.

function accumulate(acc, bytes, at, secretAt) {
  for (let i = 0; i < 8; i += 1) {
    const value = word(bytes, at + 8 * i);
    const key = value ^ word(SECRET, secretAt + 8 * i);
    acc[i ^ 1] += value;
    acc[i] += (key & 0xffffffffn) * (key >> 32n);
  }
}

function accumulateLong(bytes) {
  const n = bytes.length;
  const acc = BigUint64Array.of(
    ...[PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1],
  );
  const blocks = Math.floor((n - 1) / BLOCK);
  for (let block = 0; block < blocks; block += 1) {
    for (let s = 0; s < STRIPES_OF_BLOCK; s += 1) {
      accumulate(acc, bytes, block * BLOCK + s * STRIPE, 8 * s);
    }
    for (let i = 0; i < 8; i += 1) {
      acc[i] = (acc[i] ^ (acc[i] >> 47n) ^ word(SECRET, 128 + 8 * i)) * PRIME32_1;
    }
  }
  const stripes = Math.floor((n - 1 - blocks * BLOCK) / STRIPE);
  for (let s = 0; s < stripes; s += 1) {
    accumulate(acc, bytes, blocks * BLOCK + s * STRIPE, 8 * s);
  }
  accumulate(acc, bytes, n - STRIPE, 121);
  return acc;
}

function merge(acc, secretAt, start) {
  let result = start;
  for (let i = 0; i < 4; i += 1) {
    const at = secretAt + 16 * i;
    result += fold(acc[2 * i] ^ word(SECRET, at), acc[2 * i + 1] ^ word(SECRET, at + 8));
  }
  return avalanche(u64(result));
}

/** XXH3, 64 bits, of a Buffer, as a BigInt. */
export function xxh3_64(bytes) {
  const n = bytes.length;
  const N = BigInt(n);
  if (n === 0) return avalanche64(secretPair(56, 64));
  if (n <= 3) return avalanche64(BigInt(pack3(bytes)) ^ half(SECRET, 0) ^ half(SECRET, 4));
  if (n <= 8) {
    let x = (half(bytes, n - 4) + (half(bytes, 0) << 32n)) ^ secretPair(8, 16);
    x ^= rotate64(x, 49n) ^ rotate64(x, 24n);
    x = u64(x * PRIME_MX2);
    x = u64((x ^ ((x >> 35n) + N)) * PRIME_MX2);
    return x ^ (x >> 28n);
  }
  if (n <= 16) {
    const low = word(bytes, 0) ^ secretPair(24, 32);
    const high = word(bytes, n - 8) ^ secretPair(40, 48);
    return avalanche(u64(N + swap64(low) + high + fold(low, high)));
  }
  if (n > 240) return merge(accumulateLong(bytes), 11, u64(N * PRIME64_1));
  let acc = u64(N * PRIME64_1);
  if (n <= 128) {
    for (let i = Math.floor((n - 1) / 32); i >= 0; i -= 1) {
      acc += mix16(bytes, 16 * i, 32 * i) + mix16(bytes, n - 16 * (i + 1), 32 * i + 16);
    }
    return avalanche(u64(acc));
  }
  for (let i = 0; i < 8; i += 1) acc += mix16(bytes, 16 * i, 16 * i);
  acc = avalanche(u64(acc));
  for (let i = 8; i < Math.floor(n / 16); i += 1) acc += mix16(bytes, 16 * i, 16 * (i - 8) + 3);
  return avalanche(u64(acc + mix16(bytes, n - 16, 119)));
}

function short128(bytes) {
  const n = bytes.length;
  const N = BigInt(n);
  if (n === 0) return [avalanche64(secretPair(80, 88)), avalanche64(secretPair(64, 72))];
  if (n <= 3) {
    const low = pack3(bytes);
    const swapped = Buffer.of(low & 255, (low >> 8) & 255, (low >> 16) & 255, low >>> 24).readUInt32BE();
    const high = ((swapped << 13) | (swapped >>> 19)) >>> 0;
    return [
      avalanche64(BigInt(high) ^ half(SECRET, 8) ^ half(SECRET, 12)),
      avalanche64(BigInt(low) ^ half(SECRET, 0) ^ half(SECRET, 4)),
    ];
  }
  if (n <= 8) {
    const keyed = (half(bytes, 0) + (half(bytes, n - 4) << 32n)) ^ secretPair(16, 24);
    const product = keyed * (PRIME64_1 + (N << 2n));
    const high = u64((product >> 64n) + (product << 1n & 0xffffffffffffffffn));
    let low = u64(product) ^ (high >> 3n);
    low = u64((low ^ (low >> 35n)) * PRIME_MX2);
    return [avalanche(high), low ^ (low >> 28n)];
  }
  const last = word(bytes, n - 8);
  const first = (word(bytes, 0) ^ last ^ secretPair(32, 40)) * PRIME64_1;
  const keyed = last ^ secretPair(48, 56);
  const high = u64((first >> 64n) + keyed + (keyed & 0xffffffffn) * (PRIME32_2 - 1n));
  const low = u64(u64(first) + ((N - 1n) << 54n)) ^ swap64(high);
  const second = low * PRIME64_2;
  return [avalanche(u64((second >> 64n) + high * PRIME64_2)), avalanche(u64(second))];
}

function medium128(bytes) {
  const n = bytes.length;
  const N = BigInt(n);
  let low = u64(N * PRIME64_1);
  let high = 0n;
  const mix = (a, b, secretAt) => {
    low = u64(low + mix16(bytes, a, secretAt)) ^ u64(word(bytes, b) + word(bytes, b + 8));
    high = u64(high + mix16(bytes, b, secretAt + 16)) ^ u64(word(bytes, a) + word(bytes, a + 8));
  };
  if (n <= 128) {
    for (let i = Math.floor((n - 1) / 32); i >= 0; i -= 1) mix(16 * i, n - 16 * (i + 1), 32 * i);
  } else {
    for (let i = 0; i < 128; i += 32) mix(i, i + 16, i);
    low = avalanche(low);
    high = avalanche(high);
    for (let i = 160; i <= n; i += 32) mix(i - 32, i - 16, i - 157);
    mix(n - 16, n - 32, 103);
  }
  const end = avalanche(u64(low * PRIME64_1 + high * PRIME64_4 + N * PRIME64_2));
  return [u64(-end), avalanche(u64(low + high))];
}

/** XXH3, 128 bits, of a Buffer, in its canonical form: 16 bytes, most significant first. */
export function xxh3_128(bytes) {
  let high;
  let low;
  if (bytes.length <= 16) [high, low] = short128(bytes);
  else if (bytes.length <= 240) [high, low] = medium128(bytes);
  else {
    const acc = accumulateLong(bytes);
    const N = BigInt(bytes.length);
    low = merge(acc, 11, u64(N * PRIME64_1));
    high = merge(acc, 117, u64(~(N * PRIME64_2)));
  }
  const digest = Buffer.alloc(16);
  digest.writeBigUInt64BE(high, 0);
  digest.writeBigUInt64BE(low, 8);
  return digest;
}
