// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Iterators over the kernel's tables of BPF objects, which write a record for each object: all that moves, and what never
 * changes of those that the reader has not met. `src/kernel/iter/` loads the object and reads the records.
 *
 * The kernel's structures are declared as far as they are read, and relocated when the object is loaded. A field that some
 * kernel lacks stands behind bpf_core_field_exists().
 */
#include "programs.h"
#include "maps.h"
#include "links.h"
#include "files.h"

char licence[] SEC("license") = "Dual BSD/GPL";
