/* Lets OpenDKIM look up names below .test in the lab.

   OpenDKIM has its own copy of a resolver (libunbound), which by default answers for the special-use zone test.
   (RFC 6761) itself: no such name. Its ResolverConfiguration could say otherwise, but is no choice: see
   chatmail/opendkim/files/etc/opendkim.conf. Preloaded into OpenDKIM on the lab's hosts alone. */

#define _GNU_SOURCE
#include <dlfcn.h>

struct ub_ctx;
int ub_ctx_set_option(struct ub_ctx *ctx, const char *option, const char *value);

struct ub_ctx *ub_ctx_create(void)
{
	struct ub_ctx *(*create)(void) = (struct ub_ctx *(*)(void))dlsym(RTLD_NEXT, "ub_ctx_create");
	struct ub_ctx *ctx = create();

	if (ctx)
		ub_ctx_set_option(ctx, "local-zone:", "test. transparent");
	return ctx;
}
