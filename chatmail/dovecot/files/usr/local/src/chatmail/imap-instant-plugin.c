/* imap_instant: an idling IMAP client learns of a new message immediately.

   Dovecot 2.3 watches a selected maildir with inotify, but waits a fixed 500 ms after an event before it tells the
   client (src/lib-storage/mailbox-watch.c). Besides costing half a second, the wait loses messages: a session that
   is handed to imap-hibernate while the timer runs takes the timer to its grave, and imap-hibernate's own watch
   began after the event.

   While a client waits for changes, this plugin

   1. watches the mailbox's new/ with an inotify instance of its own. (A second watch of the same directory in
      Dovecot's instance would share its watch descriptor, and removing one would remove both.) On a delivery it
      drops the pending timer and calls the mailbox's notify callback, as soon as the delivery has unlocked the mailbox:
      Dovecot waits for a lock by an inotify instance, and to close one takes the kernel up to 15 ms.
   2. looks, when the session has been handed to imap-hibernate, whether a change is still unannounced: the timer
      runs, or a delivery is in the queue of our watch, which ends later than imap-hibernate's begins. If so it
      creates and removes a dot file in new/, which wakes the session again. Dot files are not messages to Dovecot.

   Dovecot's own watch stays as it is; hibernation passes it on. Where the kernel refuses us an inotify instance or
   a watch, the session goes on with Dovecot's delay.

   It also limits how many folders a client makes: each is eight files, which no quota of 2.3 counts.

   Build: gcc -shared -fPIC -DHAVE_CONFIG_H -I/usr/include/dovecot, with Debian's dovecot-dev. SOURCE_DIGEST, a string
   literal, marks the result with the source it was made from. */

#include "imap-common.h"
#include "hostpid.h"
#include "ioloop.h"
#include "mailbox-list-iter.h"
#include "mail-storage-private.h"
#include "mail-storage-hooks.h"
#include "module-context.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Clients make five or so. */
#define FOLDERS_MAX 100

/* Whoever delivers holds it from before the message is in new/ until the index has it. */
#define LOCK_NAME "dovecot-uidlist.lock"

struct instant_mailbox {
	union mailbox_module_context module_ctx;

	/* Our watch of new/ and of the lock's removal; -1 and NULL while nobody waits for changes. */
	int inotify_fd;
	struct io *io;
	/* A message has come that the callback was not called for. */
	bool delivered;
};

struct instant_client {
	union imap_module_context module_ctx;
};

void imap_instant_plugin_init(struct module *module);
void imap_instant_plugin_deinit(void);

/* Dovecot refuses a plugin whose string differs from its own. */
const char *imap_instant_plugin_version = DOVECOT_ABI_VERSION;
const char imap_instant_plugin_binary_dependency[] = "imap";
const char imap_instant_plugin_source[] = "imap_instant source " SOURCE_DIGEST;

static MODULE_CONTEXT_DEFINE_INIT(instant_storage_module, &mail_storage_module_register);
static MODULE_CONTEXT_DEFINE_INIT(instant_imap_module, &imap_module_register);

static struct module *instant_module;
static imap_client_created_func_t *next_client_created;

/* Takes all queued events off our watch. Returns TRUE if a message was among them. */
static bool instant_read_deliveries(int inotify_fd)
{
	union {
		struct inotify_event event;
		char bytes[8192];
	} buffer;
	bool delivered = FALSE;
	ssize_t size;

	while ((size = read(inotify_fd, &buffer, sizeof(buffer))) > 0) {
		const char *end = buffer.bytes + size;
		const char *next = buffer.bytes;

		while (next < end) {
			const struct inotify_event *event = (const void *)next;

			next += sizeof(*event) + event->len;
			if ((event->mask & IN_Q_OVERFLOW) != 0)
				delivered = TRUE;
			else if ((event->mask & (IN_CREATE | IN_MOVED_TO)) != 0 &&
				 event->name[0] != '.')
				delivered = TRUE;
		}
	}
	/* The queue is empty (EAGAIN): the buffer has room for any event, so nothing else can end the loop. */
	return delivered;
}

static const char *instant_lock_directory(struct mailbox *box)
{
	const char *path;

	return mailbox_get_path_to(box, MAILBOX_LIST_PATH_TYPE_CONTROL, &path) > 0 ? path : mailbox_get_path(box);
}

static bool instant_is_locked(struct mailbox *box)
{
	return access(t_strconcat(instant_lock_directory(box), "/" LOCK_NAME, NULL), F_OK) == 0;
}

static void instant_input(struct mailbox *box)
{
	struct instant_mailbox *ibox = MODULE_CONTEXT_REQUIRE(box, instant_storage_module);

	if (instant_read_deliveries(ibox->inotify_fd))
		ibox->delivered = TRUE;
	/* A lock that stays is a matter of Dovecot's timer. */
	if (!ibox->delivered || instant_is_locked(box))
		return;
	ibox->delivered = FALSE;
	timeout_remove(&box->to_notify_delay);
	/* May close the client and free box: nothing may follow. */
	box->notify_callback(box, box->notify_context);
}

static void instant_unwatch(struct instant_mailbox *ibox)
{
	io_remove(&ibox->io);
	i_close_fd(&ibox->inotify_fd);
	ibox->delivered = FALSE;
}

static void instant_watch(struct mailbox *box, struct instant_mailbox *ibox)
{
	/* Once a session: it has a process of its own, and a new one each time it comes back from hibernation. */
	static bool refusal_logged = FALSE;
	const char *path = t_strconcat(mailbox_get_path(box), "/new", NULL);

	ibox->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (ibox->inotify_fd != -1 &&
	    inotify_add_watch(ibox->inotify_fd, path, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) != -1 &&
	    inotify_add_watch(ibox->inotify_fd, instant_lock_directory(box), IN_DELETE | IN_ONLYDIR) != -1) {
		ibox->io = io_add(ibox->inotify_fd, IO_READ, instant_input, box);
		return;
	}
	/* No directory: there is nothing to watch, and Dovecot reports what is wrong with the mailbox. */
	if (errno != ENOENT && !refusal_logged && !box->storage->user->session_restored) {
		i_warning("imap_instant: cannot watch %s: %m. New messages are announced with a delay; "
			  "raise fs.inotify.max_user_instances (EMFILE) or fs.inotify.max_user_watches (ENOSPC)", path);
		refusal_logged = TRUE;
	}
	i_close_fd(&ibox->inotify_fd);
}

/* Begins or, without a callback, ends the waiting for changes. */
static void instant_notify_changes(struct mailbox *box)
{
	struct instant_mailbox *ibox = MODULE_CONTEXT_REQUIRE(box, instant_storage_module);

	ibox->module_ctx.super.notify_changes(box);
	if (box->notify_callback == NULL)
		instant_unwatch(ibox);
	else if (ibox->inotify_fd == -1)
		instant_watch(box, ibox);
}

static void instant_mailbox_close(struct mailbox *box)
{
	struct instant_mailbox *ibox = MODULE_CONTEXT_REQUIRE(box, instant_storage_module);

	instant_unwatch(ibox);
	ibox->module_ctx.super.close(box);
}

static unsigned int instant_count_folders(struct mailbox_list *list)
{
	struct mailbox_list_iterate_context *iter;
	unsigned int count = 0;

	iter = mailbox_list_iter_init(list, "*", MAILBOX_LIST_ITER_RETURN_NO_FLAGS);
	while (mailbox_list_iter_next(iter) != NULL)
		count++;
	(void)mailbox_list_iter_deinit(&iter);
	return count;
}

static int instant_create_box(struct mailbox *box, const struct mailbox_update *update, bool directory)
{
	struct instant_mailbox *ibox = MODULE_CONTEXT_REQUIRE(box, instant_storage_module);

	if (!box->inbox_any && instant_count_folders(box->list) >= FOLDERS_MAX) {
		mail_storage_set_error(box->storage, MAIL_ERROR_LIMIT, "Too many folders; delete some first");
		return -1;
	}
	return ibox->module_ctx.super.create_box(box, update, directory);
}

static void instant_mailbox_allocated(struct mailbox *box)
{
	struct mailbox_vfuncs *v = box->vlast;
	struct instant_mailbox *ibox;

	if (strcmp(box->storage->name, "maildir") != 0)
		return;
	ibox = p_new(box->pool, struct instant_mailbox, 1);
	ibox->inotify_fd = -1;
	ibox->module_ctx.super = *v;
	box->vlast = &ibox->module_ctx.super;
	v->notify_changes = instant_notify_changes;
	v->close = instant_mailbox_close;
	v->create_box = instant_create_box;
	MODULE_CONTEXT_SET(box, instant_storage_module, ibox);
}

static bool instant_has_unannounced(struct mailbox *box)
{
	struct instant_mailbox *ibox = MODULE_CONTEXT(box, instant_storage_module);

	if (box->to_notify_delay != NULL)
		return TRUE;
	return ibox != NULL && ibox->inotify_fd != -1 && (ibox->delivered || instant_read_deliveries(ibox->inotify_fd));
}

/* Makes an event in new/ for whoever watches it, without making a message. */
static void instant_wake(struct mailbox *box)
{
	const char *path = t_strconcat(mailbox_get_path(box), "/new/.imap-instant.", my_pid, NULL);
	int fd = open(path, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd != -1)
		i_close_fd(&fd);
	else if (errno != ENOENT)
		i_error("imap_instant: cannot wake the hibernated session: open(%s) failed: %m", path);
	if (unlink(path) < 0 && errno != ENOENT)
		i_error("imap_instant: unlink(%s) failed: %m", path);
}

static void instant_client_destroy(struct client *client, const char *reason)
{
	struct instant_client *iclient = MODULE_CONTEXT_REQUIRE(client, instant_imap_module);

	if (client->hibernated && client->mailbox != NULL && instant_has_unannounced(client->mailbox))
		instant_wake(client->mailbox);
	iclient->module_ctx.super.destroy(client, reason);
}

static void instant_client_created(struct client **client_p)
{
	struct client *client = *client_p;

	/* The hook is of the process, the list of plugins of the user. */
	if (mail_user_is_plugin_loaded(client->user, instant_module)) {
		struct instant_client *iclient = p_new(client->pool, struct instant_client, 1);

		iclient->module_ctx.super = client->v;
		client->v.destroy = instant_client_destroy;
		MODULE_CONTEXT_SET(client, instant_imap_module, iclient);
	}
	if (next_client_created != NULL)
		next_client_created(client_p);
}

static struct mail_storage_hooks instant_hooks = {
	.mailbox_allocated = instant_mailbox_allocated,
};

void imap_instant_plugin_init(struct module *module)
{
	instant_module = module;
	mail_storage_hooks_add(module, &instant_hooks);
	next_client_created = imap_client_created_hook_set(instant_client_created);
}

void imap_instant_plugin_deinit(void)
{
	imap_client_created_hook_set(next_client_created);
	mail_storage_hooks_remove(&instant_hooks);
}
