// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Iterators over the kernel's BPF programs, maps and links, the files of processes and the file systems of pins. They
 * write a record per object; immutable facts of programs only if the reader requests them. `src/kernel/iter/` loads the object and
 * reads the records.
 *
 * Structures of the kernel are declared with the fields that are read, and relocated when the object is loaded.
 * Fields that some supported kernel lacks are guarded by bpf_core_field_exists().
 */
#include "programs.h"
#include "maps.h"
#include "links.h"
#include "files.h"
#include "bpffs.h"

char licence[] SEC("license") = "Dual BSD/GPL";
