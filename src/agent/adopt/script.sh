# Run as root in a Vagrant box, behind a line each that sets user, name, login, host_public and host_private.
set -eu
umask 077
rsa=AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr
ed25519=AAAAC3NzaC1lZDI1NTE5AAAAIN1YdxBpNlzxDqfJyw/QKow1F+wvG9hXGoqiysfJOn5Y

entry=$(grep "^$user:" /etc/passwd) || { echo "the box has no user $user: set ssh_user to one that it has, such as vagrant" >&2; exit 3; }
home=$(echo "$entry" | cut -d: -f6)
owner=$(echo "$entry" | cut -d: -f3,4)
mkdir -p "$home/.ssh"
file=$home/.ssh/authorized_keys
touch "$file"
grep -qF "$login" "$file" || printf '\n%s\n' "$login" >> "$file"
chown "$owner" "$home/.ssh" "$file"
chmod 700 "$home/.ssh"

# Whoever may log in by the key that all the world has.
for file in "$file" /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys; do
	[ -f "$file" ] || continue
	kept=$(grep -vF -e "$rsa" -e "$ed25519" "$file" || :)
	printf '%s\n' "$kept" > "$file"
done

printf '%s\n' "$host_private" > /etc/ssh/ssh_host_ed25519_key
printf '%s\n' "$host_public" > /etc/ssh/ssh_host_ed25519_key.pub
chmod 644 /etc/ssh/ssh_host_ed25519_key.pub
if command -v restorecon >/dev/null; then restorecon -R "$home/.ssh" /etc/ssh || :; fi

umask 022
{ hostnamectl set-hostname "$name" || { echo "$name" > /etc/hostname && hostname "$name"; }; } >/dev/null 2>&1 || :
if grep -q '^127\.0\.1\.1' /etc/hosts; then
	hosts=$(sed "s/^127\.0\.1\.1.*/127.0.1.1 $name/" /etc/hosts)
else
	hosts=$(cat /etc/hosts; echo "127.0.1.1 $name")
fi
printf '%s\n' "$hosts" > /etc/hosts

# A server that each connection starts anew reads the key anew by itself. This connection stays in any case.
if [ -s /run/sshd.pid ]; then
	kill -HUP "$(cat /run/sshd.pid)"
elif command -v systemctl >/dev/null; then
	systemctl try-restart ssh.service sshd.service || :
fi
