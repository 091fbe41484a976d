// What the operations of running models see: all slots in one buffer, the step's rows, up to two read-only arrays, a cache.

struct Parameters {
  zero: u32,
  tokens: u32,     // rows of the step
  rows: u32,       // rows, or runs, that this operation works on
  width: u32,
  x: u32,          // words of `slots` before the first input
  y: u32,
  z: u32,
  out: u32,
  outWidth: u32,
  count: u32,
  heads: u32,
  kvHeads: u32,
  headWidth: u32,
  valueWidth: u32,
  start: u32,
  flags: u32,
  window: u32,     // 0: all
  beyond: u32,
  xStart: u32,
  xStride: u32,
  outStart: u32,
  outStride: u32,
  keyStride: u32,  // elements of a position
  valueStride: u32,
  activation: u32,
  groups: u32,
  groupsChosen: u32,
  scale: f32,
  epsilon: f32,
  cap: f32,
  spare0: u32,
  spare1: u32,
}
@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read_write> slots: array<f32>;
@group(0) @binding(3) var<storage, read> first: array<f32>;
@group(0) @binding(4) var<storage, read> second: array<f32>;
@group(0) @binding(5) var<storage, read_write> cache: array<f32>;

fn index_of(group: vec3u, groups: vec3u) -> u32 { return group.x + group.y * groups.x; }

// Of token row r.
fn position_of(r: u32) -> u32 { return batch[parameters.tokens + r]; }
fn call_length_of(r: u32) -> u32 { return batch[2u * parameters.tokens + r]; }
fn table_of(r: u32) -> u32 { return batch[3u * parameters.tokens + r]; }
// The token row of output row o.
fn output_row(o: u32) -> u32 { return batch[4u * parameters.tokens + o]; }

const CACHE_BLOCK = 32u;

// Where a position's key is in the cache. Blocks have their keys, then their values.
fn key_at(r: u32, position: u32) -> u32 {
  let block = batch[table_of(r) + position / CACHE_BLOCK];
  let whole = CACHE_BLOCK * (parameters.keyStride + parameters.valueStride);
  return block * whole + (position % CACHE_BLOCK) * parameters.keyStride;
}

fn value_at(r: u32, position: u32) -> u32 {
  let block = batch[table_of(r) + position / CACHE_BLOCK];
  let whole = CACHE_BLOCK * (parameters.keyStride + parameters.valueStride);
  return block * whole + CACHE_BLOCK * parameters.keyStride + (position % CACHE_BLOCK) * parameters.valueStride;
}
