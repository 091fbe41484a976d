// The largest of `count` logits, the lowest index among equals, in two dispatches: a candidate from each of GROUPS workgroups,
// then the best of them.

const THREADS = 256u;
const GROUPS = 64u;
const NONE = 0xffffffffu;

struct Candidate { key: u32, index: u32 }

var<workgroup> keys: array<u32, THREADS>;
var<workgroup> indices: array<u32, THREADS>;

// Floats in the order of integers.
fn ordered(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return bits ^ select(0x80000000u, 0xffffffffu, (bits & 0x80000000u) != 0u);
}

fn better(a: Candidate, b: Candidate) -> Candidate {
  if (b.key > a.key || (b.key == a.key && b.index < a.index)) { return b; }
  return a;
}

// The best of all threads, for the first one.
fn best_of(thread: u32, own: Candidate) -> Candidate {
  var best = own;
  for (var distance = THREADS / 2u; distance > 0u; distance >>= 1u) {
    keys[thread] = best.key;
    indices[thread] = best.index;
    workgroupBarrier();
    if (thread < distance) { best = better(best, Candidate(keys[thread + distance], indices[thread + distance])); }
    workgroupBarrier();
  }
  return best;
}

@compute @workgroup_size(256)
fn choose_some(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3u) {
  var best = Candidate(0u, NONE);
  for (var i = group.x * THREADS + thread; i < parameters.count; i += GROUPS * THREADS) {
    best = better(best, Candidate(ordered(slots[parameters.x + i]), i));
  }
  best = best_of(thread, best);
  if (thread == 0u) {
    slots[parameters.out + 1u + 2u * group.x] = bitcast<f32>(best.key);
    slots[parameters.out + 2u + 2u * group.x] = bitcast<f32>(best.index);
  }
}

@compute @workgroup_size(256)
fn choose(@builtin(local_invocation_index) thread: u32) {
  var best = Candidate(0u, NONE);
  if (thread < GROUPS) {
    let at = parameters.out + 1u + 2u * thread;
    best = Candidate(bitcast<u32>(slots[at]), bitcast<u32>(slots[at + 1u]));
  }
  best = best_of(thread, best);
  if (thread == 0u) { slots[parameters.out] = bitcast<f32>(best.index); }
}
