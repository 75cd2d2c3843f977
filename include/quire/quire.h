/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quire.h - everything a program needs; see common.h for the rules.
 *
 *	struct quire *q;
 *	struct quire_group *g;
 *	struct quire_heap *h;
 *
 *	if (quire_open(NULL, &q) < 0 ||
 *	    quire_group_create(quire_root(q), "tenant-1", &g) < 0 ||
 *	    quire_write(g, "memory.max", "64M") < 0 ||
 *	    quire_heap_create(g, 0, &h) < 0)
 *		errx(1, "%s", quire_why());
 *	p = quire_malloc(h, 1 << 30);	(a gigabyte in 64 megabytes)
 */
#ifndef QUIRE_QUIRE_H
#define QUIRE_QUIRE_H

#include <quire/common.h>
#include <quire/event.h>
#include <quire/group.h>
#include <quire/heap.h>
#include <quire/probe.h>
#include <quire/region.h>
#include <quire/stat.h>

#endif
