/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_elf.c - which programs can be managed: made-up files, and real ones.
 */
#include "lib/test.h"

#include "../../../cmd/quire/elf.c"

static char dir[PATH_MAX];

static void begin(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/quire-elf-XXXXXX", tmp ? tmp : "/tmp");
	ASSERT_NOT_NULL(mkdtemp(dir));
}

/* An executable file; returns its path. */
static const char *put(const char *name, const void *bytes, size_t len)
{
	static char path[PATH_MAX * 2];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	out = fopen(path, "w");
	ASSERT_NOT_NULL(out);
	fwrite(bytes, 1, len, out);
	fclose(out);
	ASSERT_OK(chmod(path, 0755));
	return path;
}

static const char *put_text(const char *name, const char *text)
{
	return put(name, text, strlen(text));
}

struct image {
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	char interp[64];
};

static struct image image_of(const char *interp)
{
	struct image im = { .eh = {
				    .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
						 EV_CURRENT },
				    .e_type = ET_DYN,
				    .e_machine = OWN_MACHINE,
				    .e_phoff = offsetof(struct image, ph),
				    .e_phentsize = sizeof(Elf64_Phdr),
				    .e_phnum = 1,
			    } };

	im.ph.p_type = PT_LOAD;
	if (interp) {
		im.ph.p_type = PT_INTERP;
		im.ph.p_offset = offsetof(struct image, interp);
		im.ph.p_filesz = strlen(interp) + 1;
		strcpy(im.interp, interp);
	}
	return im;
}

/* The verdict must be `kind`, and its reason contain `part`. */
static void expect(const char *name, enum target_kind kind, const char *part)
{
	struct target t;

	target_find(name, &t);
	if (t.kind != kind)
		FAIL("%s: verdict %d, not %d: %s", name, (int)t.kind, (int)kind, t.why);
	if (part && !strstr(t.why, part))
		FAIL("%s: \"%s\" does not say \"%s\"", name, t.why, part);
}

TEST(real_programs)
{
	expect("/bin/sh", TARGET_OK, NULL);
	expect("sh", TARGET_OK, NULL);
	expect("/lib64/ld-linux-x86-64.so.2", TARGET_OK, NULL);
}

TEST(not_found)
{
	expect("", TARGET_NOT_FOUND, "empty");
	expect("quire-no-such-program", TARGET_NOT_FOUND, "PATH");
	expect("/no/such/program", TARGET_NOT_FOUND, "no such program");
	expect("/etc/passwd/x", TARGET_NOT_FOUND, "no such program");
}

TEST(not_executable)
{
	begin();
	expect("/", TARGET_NOT_EXECUTABLE, "directory");
	expect("/etc/passwd", TARGET_NOT_EXECUTABLE, "chmod");
	expect("/dev/null", TARGET_NOT_EXECUTABLE, "ermission");
	expect(put("short", ELFMAG "\2\1\1", 7), TARGET_UNMANAGEABLE, "unknown");
}

TEST(elf_kinds)
{
	struct image im;

	begin();
	im = image_of("/lib64/ld-linux-x86-64.so.2");
	expect(put("glibc", &im, sizeof(im)), TARGET_OK, NULL);
	im = image_of("/nix/store/0-glibc/lib/ld-linux-x86-64.so.2");
	expect(put("elsewhere", &im, sizeof(im)), TARGET_OK, NULL);
	im = image_of(NULL);
	expect(put("static", &im, sizeof(im)), TARGET_UNMANAGEABLE, "statically");
	expect(put("ld-linux.so", &im, sizeof(im)), TARGET_OK, NULL);
	im = image_of("/lib/ld-musl-x86_64.so.1");
	expect(put("musl", &im, sizeof(im)), TARGET_UNMANAGEABLE, "musl");
	im = image_of("/libexec/ld-elf.so.1");
	expect(put("bsd", &im, sizeof(im)), TARGET_UNMANAGEABLE, "ld-elf");
	im.eh.e_machine = EM_RISCV;
	expect(put("riscv", &im, sizeof(im)), TARGET_UNMANAGEABLE, "riscv");
	im = image_of(NULL);
	im.eh.e_ident[EI_CLASS] = ELFCLASS32;
	im.eh.e_machine = EM_386;
	expect(put("i386", &im, sizeof(im)), TARGET_UNMANAGEABLE, "i386");
}

TEST(broken_elf)
{
	struct image im = image_of("/lib64/ld-linux-x86-64.so.2");

	begin();
	im.eh.e_phnum = 9999;
	expect(put("phnum", &im, sizeof(im)), TARGET_NOT_EXECUTABLE, "broken");
	im.eh.e_phnum = 1;
	im.eh.e_phoff = (Elf64_Off)-8;
	expect(put("phoff", &im, sizeof(im)), TARGET_NOT_EXECUTABLE, "broken");
	im.eh.e_phoff = offsetof(struct image, ph);
	im.ph.p_filesz = (Elf64_Xword)-1;
	expect(put("filesz", &im, sizeof(im)), TARGET_NOT_EXECUTABLE, "broken");
	im.ph.p_filesz = 20;
	im.ph.p_offset = 1 << 20;
	expect(put("offset", &im, sizeof(im)), TARGET_NOT_EXECUTABLE, "broken");
}

TEST(scripts)
{
	struct image im = image_of(NULL);
	char text[PATH_MAX * 2 + 16];
	struct target t;

	begin();
	expect(put_text("plain", "#!/bin/sh\n"), TARGET_OK, NULL);
	expect(put_text("spaces", "#! \t/bin/sh -e\n"), TARGET_OK, NULL);
	expect(put_text("missing", "#!/no/such/interpreter\n"), TARGET_NOT_FOUND, "interpreter");
	snprintf(text, sizeof(text), "#!%s\n", put("static", &im, sizeof(im)));
	expect(put_text("of-static", text), TARGET_UNMANAGEABLE, "statically");
	snprintf(text, sizeof(text), "#!%s/of-static\n", dir);
	expect(put_text("of-script", text), TARGET_UNMANAGEABLE, "statically");
	snprintf(text, sizeof(text), "#!%s/loop\n", dir);
	expect(put_text("loop", text), TARGET_NOT_EXECUTABLE, "levels");
	target_find(put_text("formless", "echo hello\n"), &t);
	ASSERT_TRUE(t.kind == TARGET_OK);
	ASSERT_TRUE(t.by_shell);
}

TEST(setuid)
{
	struct image im = image_of("/lib64/ld-linux-x86-64.so.2");
	const char *path;
	struct statvfs fs;

	begin();
	if (getuid())
		SKIP("needs root to give a file away");
	if (!statvfs(dir, &fs) && fs.f_flag & ST_NOSUID)
		SKIP("%s is mounted nosuid", dir);
	path = put("setuid", &im, sizeof(im));
	ASSERT_OK(chown(path, 12345, 12345));
	expect(path, TARGET_OK, NULL);
	ASSERT_OK(chmod(path, 04755));
	expect(path, TARGET_UNMANAGEABLE, "setuid");
	ASSERT_OK(chmod(path, 02755));
	expect(path, TARGET_UNMANAGEABLE, "setuid");
	/* A setgid bit without group execution is mandatory locking. */
	ASSERT_OK(chmod(path, 02745));
	expect(path, TARGET_OK, NULL);
}

TEST(search)
{
	char path[PATH_MAX * 2 + 32], *old = strdup(getenv("PATH"));
	struct target t;

	begin();
	put_text("tool", "#!/bin/sh\n");
	snprintf(path, sizeof(path), "/nowhere::%s", dir);
	setenv("PATH", path, 1);
	target_find("tool", &t);
	setenv("PATH", old, 1);
	free(old);
	ASSERT_TRUE(t.kind == TARGET_OK);
	snprintf(path, sizeof(path), "%s/tool", dir);
	ASSERT_STR_EQ(t.path, path);
}
