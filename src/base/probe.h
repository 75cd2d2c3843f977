/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - USDT probes, provider "quire": pairs of begin and end.
 *
 * A nop in the text when nobody traces; the arguments are type-checked also
 * where <sys/sdt.h> is missing.
 */
#ifndef QUIRE_BASE_PROBE_H
#define QUIRE_BASE_PROBE_H

#include "base/types.h"

#if defined(QUIRE_HAVE_SDT)
#include <sys/sdt.h>
#define PROBE2(name, a, b) DTRACE_PROBE2(quire, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(quire, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(quire, name, a, b, c, d)
#else
#define PROBE2(name, a, b) ((void)sizeof(u64[2]), (void)(u64)(a), (void)(u64)(b))
#define PROBE3(name, a, b, c) ((void)(u64)(a), (void)(u64)(b), (void)(u64)(c))
#define PROBE4(name, a, b, c, d) ((void)(u64)(a), (void)(u64)(b), (void)(u64)(c), (void)(u64)(d))
#endif

/* fault: address, queue / objcg, kind (enum fault_kind), ns */
#define PROBE_FAULT_BEGIN(addr, queue) PROBE2(fault_begin, addr, queue)
#define PROBE_FAULT_END(objcg, kind, ns) PROBE3(fault_end, objcg, kind, ns)
/* reclaim: memcg, pages wanted / memcg, pages freed, pages scanned */
#define PROBE_RECLAIM_BEGIN(memcg, want) PROBE2(reclaim_begin, memcg, want)
#define PROBE_RECLAIM_END(memcg, freed, scanned) PROBE3(reclaim_end, memcg, freed, scanned)
/* a page leaves memory: slot, bytes kept, tier */
#define PROBE_PAGEOUT(slot, bytes, tier) PROBE3(pageout, slot, bytes, tier)
#define PROBE_IO_SUBMIT(off, bytes, write) PROBE3(io_submit, off, bytes, write)
#define PROBE_IO_COMPLETE(off, bytes, res) PROBE3(io_complete, off, bytes, res)
#define PROBE_THROTTLE(memcg, ns) PROBE2(throttle, memcg, ns)
#define PROBE_OOM(memcg, usage) PROBE2(oom, memcg, usage)

#endif
