/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mm.h - the memory of one engine: what the folders below work on together.
 */
#ifndef QUIRE_PAGE_MM_H
#define QUIRE_PAGE_MM_H

#include "page/frames.h"
#include "page/page.h"
#include "page/page_table.h"
#include "page/region.h"
#include "pager/pager.h"

struct mm {
	struct meta meta; /* bytes of all metadata */
	struct pager pager;
	struct region_table regions;
	struct page_table ptes;
	struct pages pages;
	struct frames frames;
};

#endif
